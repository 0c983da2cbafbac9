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

/// How to connect to a cluster, with the flags of kubectl.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Access {
    /// Kubeconfig file. Default: as for kubectl.
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig to use.
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// Connect to the server through `kubectl port-forward` instead of the API server's proxy.
    #[arg(long, global = true)]
    pub port_forward: bool,
}

/// Output formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Table for people, as wide as the terminal.
    Table,
    /// Table for people, with all details.
    Wide,
    /// JSON, for programs.
    Json,
    /// YAML, for programs and people.
    Yaml,
    /// Markdown, for tickets and chats.
    Markdown,
}
