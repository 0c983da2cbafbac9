# EKS: CloudWatch Logs -> subscription filter -> Amazon Data Firehose -> editwar.
# Before this, enable the audit log of the cluster: docs/sources/eks.md.
#
#   export TF_VAR_editwar_token=...      a token of webhook.auth.token_file
#   terraform init && terraform apply    in the account and the region of the cluster

variable "editwar_token" {
  description = "Token of editwar's webhook. The state file contains it; secrets_manager_configuration avoids that."
  type        = string
  sensitive   = true
}

locals {
  log_group = "/aws/eks/{{cluster}}/cluster"
}

data "aws_cloudwatch_log_group" "audit" {
  name = local.log_group
}

resource "aws_kinesis_firehose_delivery_stream" "editwar" {
  name        = "editwar-{{cluster}}"
  destination = "http_endpoint"

  http_endpoint_configuration {
    name = "editwar"
    # Firehose delivers only to https, on port 443, and only accepts certificates of a public CA.
    url        = "{{url}}/firehose/{{cluster}}"
    access_key = var.editwar_token
    role_arn   = aws_iam_role.firehose.arn

    # A batch is sent after 60 s or at 5 MB, whichever comes first. The default of 300 s delays verdicts.
    buffering_interval = 60
    buffering_size     = 5

    # Retries for two hours, the maximum. Then the batch goes to the bucket: read it with `editwar analyze`.
    retry_duration = 7200
    s3_backup_mode = "FailedDataOnly"

    request_configuration {
      content_encoding = "GZIP"
    }

    # Delivery errors. Without this, Firehose does not say why it cannot deliver.
    cloudwatch_logging_options {
      enabled         = true
      log_group_name  = aws_cloudwatch_log_group.errors.name
      log_stream_name = aws_cloudwatch_log_stream.errors.name
    }

    s3_configuration {
      role_arn   = aws_iam_role.firehose.arn
      bucket_arn = aws_s3_bucket.undelivered.arn
    }
  }
}

resource "aws_cloudwatch_log_subscription_filter" "editwar" {
  name            = "editwar"
  log_group_name  = data.aws_cloudwatch_log_group.audit.name
  destination_arn = aws_kinesis_firehose_delivery_stream.editwar.arn
  role_arn        = aws_iam_role.cloudwatch.arn

  # Everything in the log group. A pattern that leaves out reads costs less, but a JSON pattern matches no event that was
  # cut, and so hides large writes: "{ $.verb != \"get\" && $.verb != \"list\" && $.verb != \"watch\" }".
  filter_pattern = ""

  # CloudWatch Logs tests the permission when the filter is created.
  depends_on = [aws_iam_role_policy.cloudwatch]
}

# What could not be delivered. Contains audit events: as confidential as the audit log.
resource "aws_s3_bucket" "undelivered" {
  bucket_prefix = "editwar-undelivered-"
}

resource "aws_s3_bucket_public_access_block" "undelivered" {
  bucket                  = aws_s3_bucket.undelivered.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_cloudwatch_log_group" "errors" {
  name              = "/aws/kinesisfirehose/editwar-{{cluster}}"
  retention_in_days = 14
}

resource "aws_cloudwatch_log_stream" "errors" {
  name           = "delivery"
  log_group_name = aws_cloudwatch_log_group.errors.name
}

# CloudWatch Logs may write to the stream, only for log groups of this account and region.
resource "aws_iam_role" "cloudwatch" {
  name_prefix = "editwar-cloudwatch-"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "logs.amazonaws.com" }
      Action    = "sts:AssumeRole"
      Condition = {
        StringLike = { "aws:SourceArn" = "${split(":log-group:", data.aws_cloudwatch_log_group.audit.arn)[0]}:*" }
      }
    }]
  })
}

resource "aws_iam_role_policy" "cloudwatch" {
  role = aws_iam_role.cloudwatch.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect   = "Allow"
      Action   = ["firehose:PutRecord", "firehose:PutRecordBatch"]
      Resource = aws_kinesis_firehose_delivery_stream.editwar.arn
    }]
  })
}

# Firehose may write to the bucket and log its errors.
resource "aws_iam_role" "firehose" {
  name_prefix = "editwar-firehose-"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "firehose.amazonaws.com" }
      Action    = "sts:AssumeRole"
    }]
  })
}

resource "aws_iam_role_policy" "firehose" {
  role = aws_iam_role.firehose.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Effect = "Allow"
        Action = [
          "s3:AbortMultipartUpload", "s3:GetBucketLocation", "s3:GetObject", "s3:ListBucket",
          "s3:ListBucketMultipartUploads", "s3:PutObject",
        ]
        Resource = [aws_s3_bucket.undelivered.arn, "${aws_s3_bucket.undelivered.arn}/*"]
      },
      {
        Effect   = "Allow"
        Action   = "logs:PutLogEvents"
        Resource = "${aws_cloudwatch_log_group.errors.arn}:*"
      },
    ]
  })
}
