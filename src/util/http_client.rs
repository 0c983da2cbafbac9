//! Clients for servers other than an API server.

use std::time::Duration;

use hyper::Uri;
use hyper::http::uri::PathAndQuery;

/// Time limit for a connection, and for each part of an answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Returns a client of the server of a URL. Its requests have the path of the URL themselves. The server's certificate must
/// come from one of these CAs (DER), or from one that this machine trusts if there are none.
///
/// # Errors
/// The URL has no host, or the certificates cannot be used.
pub(crate) fn client_for(url: &Uri, ca: Option<Vec<Vec<u8>>>) -> anyhow::Result<kube::Client> {
    drop(rustls::crypto::ring::default_provider().install_default());
    // The client puts the path of its address in front of that of the request.
    let mut address = url.clone().into_parts();
    address.path_and_query = Some(PathAndQuery::from_static("/"));
    let mut config = kube::Config::new(Uri::from_parts(address)?);
    config.root_cert = ca;
    config.connect_timeout = Some(TIMEOUT);
    config.read_timeout = Some(TIMEOUT);
    config.write_timeout = Some(TIMEOUT);
    config.default_retry = false;
    Ok(kube::Client::try_from(config)?)
}
