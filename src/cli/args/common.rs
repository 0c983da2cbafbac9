//! Arguments that several commands have: the server, the cluster, the output format.

use std::path::PathBuf;

use clap::ValueEnum;

/// A running server, and the client's credentials.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Remote {
    /// URL of a running `editwar serve`, such as http://127.0.0.1:8080, or https:// if it serves TLS.
    #[arg(long, env = "EDITWAR_SERVER", value_name = "URL")]
    pub server: Option<String>,
    /// CA certificates to verify the server's certificate, in PEM. Default: the CA certificates of the system.
    #[arg(long, env = "EDITWAR_SERVER_CA", value_name = "FILE")]
    pub server_ca: Option<PathBuf>,
    /// Do not verify the server's certificate, for servers with a self-signed one. Credentials are then sent to any server that
    /// answers.
    #[arg(long, conflicts_with = "server_ca")]
    pub insecure_skip_tls_verify: bool,
    /// File with the bearer token to authenticate with.
    #[arg(long, env = "EDITWAR_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Client certificate to authenticate with, in PEM.
    #[arg(long, env = "EDITWAR_CLIENT_CERT", value_name = "FILE", requires = "client_key")]
    pub client_cert: Option<PathBuf>,
    /// Private key of the client certificate, in PEM.
    #[arg(long, env = "EDITWAR_CLIENT_KEY", value_name = "FILE", requires = "client_cert")]
    pub client_key: Option<PathBuf>,
}

/// A cluster, with the flags of kubectl.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct KubeAccess {
    /// Kubeconfig file. Default: as for kubectl.
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig to use.
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
}

/// How to connect to a server in a cluster.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Access {
    /// The cluster.
    #[command(flatten)]
    pub cluster: KubeAccess,
    /// Connect to the server through `kubectl port-forward` instead of the API server's proxy.
    #[arg(long, global = true)]
    pub port_forward: bool,
}

/// Output formats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Table for people, as wide as the terminal.
    #[default]
    Table,
    /// Table for people, with all details.
    Wide,
    /// JSON, for programs.
    Json,
    /// YAML, for programs and people.
    Yaml,
    /// Markdown, for tickets and chats.
    Markdown,
    /// CSV with a header, for spreadsheets: a row for each war or write.
    Csv,
    /// JSON, one line for each war or write.
    Jsonl,
    /// Only the names of the objects, as arguments for `who`.
    Name,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct Colour {
    /// When to use colours: auto uses them in a terminal, unless NO_COLOR is set.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN", hide_possible_values = false)]
    color: clap::ColorChoice,
}

// === impl KubeAccess ===

impl KubeAccess {
    /// Whether the user chose a cluster, instead of the current one of the kubeconfig.
    pub fn is_chosen(&self) -> bool {
        self.kubeconfig.is_some() || self.context.is_some()
    }
}

// === impl Format ===

impl Format {
    /// Whether the output is for people.
    pub fn is_table(self) -> bool {
        matches!(self, Format::Table | Format::Wide)
    }

    /// Returns the error for a command that does not have this format.
    pub fn refused(self, supported: &str) -> anyhow::Error {
        let name = self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
        anyhow::anyhow!("this command does not support -o {name}: use {supported}")
    }
}

// === impl Colour ===

impl Colour {
    /// Applies the choice to all output of the process.
    pub fn apply(self) {
        match self.color {
            clap::ColorChoice::Auto => {}
            clap::ColorChoice::Always => anstream::ColorChoice::Always.write_global(),
            clap::ColorChoice::Never => anstream::ColorChoice::Never.write_global(),
        }
    }
}
