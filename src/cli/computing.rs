//! Questions that are answered at once: no more than there are cores, and of one client no more than wait in a short queue.

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::net::Reply;
use crate::net::budget::{Budget, Reservation};

/// Questions that wait or are answered, of all clients and of each.
const QUESTIONS_MAX: usize = 512;
const CLIENT_QUESTIONS_MAX: usize = 32;

/// The cores, shared by those who ask.
#[derive(Clone, Debug)]
pub(super) struct Computing {
    cores: Arc<Semaphore>,
    questions: Budget,
}

/// A question whose turn it is.
pub(super) struct Turn {
    _core: Option<OwnedSemaphorePermit>,
    _question: Reservation,
}

impl Default for Computing {
    fn default() -> Computing {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Computing {
            cores: Arc::new(Semaphore::new(cores)),
            questions: Budget::new(QUESTIONS_MAX, CLIENT_QUESTIONS_MAX),
        }
    }
}

// === impl Computing ===

impl Computing {
    /// Waits for a core; `None` where too many questions of this client, or of all, wait already.
    pub(super) async fn begin(&self, client: IpAddr) -> Option<Turn> {
        let question = self.questions.reserve(client, 1)?;
        Some(Turn { _core: self.cores.clone().acquire_owned().await.ok(), _question: question })
    }

    /// The answer where too many wait.
    pub(super) fn refused() -> Reply {
        let text = "{\"error\":\"too many questions at once: ask again\"}";
        let mut reply = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
        *reply.status_mut() = StatusCode::TOO_MANY_REQUESTS;
        reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        reply.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        reply
    }
}
