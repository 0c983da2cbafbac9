//! Limits concurrent queries: at most one per core, at most half of the cores per client, and a bounded number of
//! queued queries per client.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, Weak};

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::net::Reply;
use crate::net::budget::{Budget, Reservation, client_of};
use crate::util::lock::lock;

/// Maximum number of queued and running queries, in total and per client.
const QUESTIONS_MAX: usize = 512;
const CLIENT_QUESTIONS_MAX: usize = 32;

/// The query limiter, shared by all requests.
#[derive(Clone, Debug)]
pub(super) struct QueryLimiter {
    cores: Arc<Semaphore>,
    questions: Budget,
    /// A queue per client. Of the queries in it, only as many as the client may run at once also queue for the shared
    /// cores.
    queues: Arc<Mutex<HashMap<IpAddr, Weak<Semaphore>>>>,
}

/// The permits of a running query.
pub(super) struct QueryPermit {
    _core: OwnedSemaphorePermit,
    _own: OwnedSemaphorePermit,
    _question: Reservation,
}

impl Default for QueryLimiter {
    fn default() -> QueryLimiter {
        QueryLimiter {
            cores: Arc::new(Semaphore::new(cores())),
            questions: Budget::new(QUESTIONS_MAX, CLIENT_QUESTIONS_MAX),
            queues: Arc::default(),
        }
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

// === impl QueryLimiter ===

impl QueryLimiter {
    /// Waits for a core. Returns `None` if too many queries are queued, of this client or in total.
    pub(super) async fn begin(&self, client: IpAddr) -> Option<QueryPermit> {
        let question = self.questions.reserve(client, 1)?;
        let own = self.queue(client_of(client)).acquire_owned().await.ok()?;
        let core = self.cores.clone().acquire_owned().await.ok()?;
        Some(QueryPermit { _core: core, _own: own, _question: question })
    }

    fn queue(&self, client: IpAddr) -> Arc<Semaphore> {
        let mut queues = lock(&self.queues);
        if let Some(queue) = queues.get(&client).and_then(Weak::upgrade) {
            return queue;
        }
        // Keeps the map bounded by the number of queries.
        queues.retain(|_, queue| queue.strong_count() > 0);
        let queue = Arc::new(Semaphore::new((cores() / 2).max(1)));
        queues.insert(client, Arc::downgrade(&queue));
        queue
    }

    /// Returns the response for a rejected query.
    pub(super) fn refused() -> Reply {
        let text = "{\"error\":\"too many concurrent requests: try again later\"}";
        let mut reply = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
        *reply.status_mut() = StatusCode::TOO_MANY_REQUESTS;
        reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        reply.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        reply
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn queries_of_one_client_queue_behind_each_other() {
        let computing = QueryLimiter::default();
        let (greedy, modest) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let first = computing.begin(greedy).await.unwrap();
        let more: Vec<_> = (0..40)
            .map(|_| {
                tokio::spawn({
                    let computing = computing.clone();
                    async move { computing.begin(greedy).await.is_some() }
                })
            })
            .collect();
        tokio::task::yield_now().await;
        // With a single core, the second client would have to wait for the first one.
        if cores() > 1 {
            assert!(computing.begin(modest).await.is_some());
        }
        drop(first);
        let mut answered = 0;
        for question in more {
            answered += usize::from(question.await.unwrap());
        }
        assert_eq!(answered, CLIENT_QUESTIONS_MAX - 1, "the others were rejected immediately");
        assert_eq!(computing.queues.lock().unwrap().values().filter(|queue| queue.strong_count() > 0).count(), 0);
    }
}
