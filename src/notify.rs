//! Tells a human what asks for one: by a log line, a metric and a webhook.
//!
//! The log line and the metric never fail; the webhook is tried for some minutes, behind a
//! bounded queue, so that a chat server that is away stops nothing else.

use std::sync::Arc;
use std::time::Duration;

use rhizome_engine::notice::Notice;
use rhizome_engine::time::Clock;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// Notifications that may wait for the webhook: a storm in every pool of a large cluster.
const QUEUE: usize = 256;

/// Tries of one notification. With the waits below they take about five minutes.
const TRIES: u32 = 9;

/// The wait after the first failure; doubled after each, up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// The longest wait between two tries.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// How long one try may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Where notifications are posted.
#[derive(Debug, Clone)]
pub struct Webhook {
    /// The address.
    pub url: String,
    /// A bearer token to send along.
    pub token: Option<SecretString>,
}

/// Hands notices on. Clones share it.
#[derive(Clone)]
pub struct Notifier {
    cluster: Arc<str>,
    metrics: Arc<Metrics>,
    queue: Option<mpsc::Sender<Notice>>,
}

/// What is posted.
#[derive(Debug, Serialize)]
struct Post<'a> {
    cluster: &'a str,
    #[serde(flatten)]
    notice: &'a Notice,
}

/// Why a notification was not posted.
#[derive(Debug, thiserror::Error)]
enum PostError {
    /// Worth another try.
    #[error("{0}")]
    Again(String),
    /// The other side will never take it.
    #[error("{0}: check `notifications`")]
    Never(String),
}

impl Notifier {
    /// A notifier without a webhook.
    pub fn new(cluster: &str, metrics: Arc<Metrics>) -> Self {
        Self {
            cluster: Arc::from(cluster),
            metrics,
            queue: None,
        }
    }

    /// Adds a webhook, and posts to it until `stop`.
    #[must_use]
    pub fn with_webhook(
        mut self,
        webhook: Webhook,
        client: reqwest::Client,
        clock: Arc<dyn Clock>,
        stop: CancellationToken,
    ) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let poster = Poster {
            cluster: Arc::clone(&self.cluster),
            metrics: Arc::clone(&self.metrics),
            webhook,
            client,
            clock,
        };
        tokio::spawn(poster.run(waiting, stop));
        self.queue = Some(queue);
        self
    }

    /// Tells of a notice. Never waits.
    pub fn tell(&self, notice: &Notice) {
        let kind = notice.kind.as_str();
        let pool = notice.pool.as_ref().map(|pool| pool.as_str()).unwrap_or("");
        if notice.on {
            tracing::warn!(kind, pool, "{}", notice.text);
        } else {
            tracing::info!(kind, pool, "{}", notice.text);
        }
        self.metrics.noticed(notice);
        if let Some(queue) = &self.queue
            && queue.try_send(notice.clone()).is_err()
        {
            self.metrics.notified("dropped");
            tracing::error!(
                kind,
                pool,
                "a notification was dropped: {QUEUE} wait for the webhook already"
            );
        }
    }
}

struct Poster {
    cluster: Arc<str>,
    metrics: Arc<Metrics>,
    webhook: Webhook,
    client: reqwest::Client,
    clock: Arc<dyn Clock>,
}

impl Poster {
    async fn run(self, mut waiting: mpsc::Receiver<Notice>, stop: CancellationToken) {
        loop {
            let notice = tokio::select! {
                () = stop.cancelled() => return,
                notice = waiting.recv() => notice,
            };
            let Some(notice) = notice else { return };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.deliver(&notice) => {}
            }
        }
    }

    async fn deliver(&self, notice: &Notice) {
        for tried in 1..=TRIES {
            match self.post(notice).await {
                Ok(()) => return self.metrics.notified("sent"),
                Err(PostError::Again(why)) if tried < TRIES => {
                    tracing::debug!(tried, why, "a notification is tried again");
                    self.clock.sleep(wait(tried)).await;
                }
                Err(error) => {
                    self.metrics.notified("failed");
                    tracing::error!(kind = notice.kind.as_str(), %error, "a notification could not be posted");
                    return;
                }
            }
        }
    }

    async fn post(&self, notice: &Notice) -> Result<(), PostError> {
        let body = Post {
            cluster: &self.cluster,
            notice,
        };
        let mut request = self
            .client
            .post(&self.webhook.url)
            .timeout(TIMEOUT)
            .json(&body);
        if let Some(token) = &self.webhook.token {
            request = request.bearer_auth(token.expose_secret());
        }
        // Without the address: a webhook's path is often its secret.
        let answer = request
            .send()
            .await
            .map_err(|error| PostError::Again(error.without_url().to_string()))?;
        let status = answer.status();
        let again = status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429);
        match (status.is_success(), again) {
            (true, _) => Ok(()),
            (false, true) => Err(PostError::Again(format!("the webhook answered {status}"))),
            (false, false) => Err(PostError::Never(format!("the webhook answered {status}"))),
        }
    }
}

/// The wait after the `tried`th failure, with a jitter of a quarter.
fn wait(tried: u32) -> Duration {
    let doubled = FIRST_WAIT.saturating_mul(1 << tried.saturating_sub(1).min(16));
    doubled
        .min(LONGEST_WAIT)
        .mul_f64(rand::random_range(0.75..=1.25))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU32, Ordering};

    use axum::extract::State;
    use axum::http::{HeaderMap, StatusCode};
    use axum::routing::post;
    use rhizome_engine::notice::NoticeKind;
    use rhizome_engine::time::Timestamp;

    use super::*;
    use crate::clock::ScaledClock;

    #[derive(Default)]
    struct Chat {
        answers: Mutex<Vec<u16>>,
        bodies: Mutex<Vec<serde_json::Value>>,
        tokens: Mutex<Vec<String>>,
        posts: AtomicU32,
    }

    async fn take(
        State(chat): State<Arc<Chat>>,
        headers: HeaderMap,
        axum::Json(body): axum::Json<serde_json::Value>,
    ) -> StatusCode {
        chat.posts.fetch_add(1, Ordering::SeqCst);
        let token = headers
            .get("authorization")
            .map(|value| value.to_str().unwrap().to_owned());
        chat.tokens.lock().unwrap().extend(token);
        let answer = chat.answers.lock().unwrap().pop().unwrap_or(200);
        if answer == 200 {
            chat.bodies.lock().unwrap().push(body);
        }
        StatusCode::from_u16(answer).unwrap()
    }

    /// A chat server that gives these answers in turn, then 200, and a notifier that posts to it.
    async fn chat(answers: &[u16]) -> (Arc<Chat>, Notifier, Arc<Metrics>) {
        rhizome_actions::install_crypto_provider();
        let chat = Arc::new(Chat::default());
        *chat.answers.lock().unwrap() = answers.iter().rev().copied().collect();
        let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", socket.local_addr().unwrap());
        let router = axum::Router::new()
            .route("/hook", post(take))
            .with_state(Arc::clone(&chat));
        tokio::spawn(async move { axum::serve(socket, router).await });
        let metrics = Arc::new(Metrics::default());
        let notifier = Notifier::new("test", Arc::clone(&metrics)).with_webhook(
            Webhook {
                url,
                token: Some("secret".to_owned().into()),
            },
            reqwest::Client::new(),
            Arc::new(ScaledClock::new(1000)),
            CancellationToken::new(),
        );
        (chat, notifier, metrics)
    }

    fn notice(text: &str) -> Notice {
        Notice {
            at: Timestamp(0),
            kind: NoticeKind::Storm,
            on: true,
            pool: Some("workers".into()),
            subject: None,
            text: text.to_owned(),
        }
    }

    async fn until(metrics: &Metrics, line: &str) {
        for _ in 0..60_000 {
            if metrics.encode().contains(line) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        panic!("no `{line}` in:\n{}", metrics.encode());
    }

    #[tokio::test]
    async fn a_notice_is_posted_with_its_token_and_tried_again_while_the_server_is_ill() {
        let (chat, notifier, metrics) = chat(&[503, 429, 500]).await;
        notifier.tell(&notice("5 of 8 are silent"));
        until(&metrics, "rhizome_notifications_total{outcome=\"sent\"} 1").await;
        assert_eq!(chat.posts.load(Ordering::SeqCst), 4);
        let bodies = chat.bodies.lock().unwrap();
        assert_eq!(bodies[0]["cluster"], "test");
        assert_eq!(bodies[0]["kind"], "storm");
        assert_eq!(bodies[0]["pool"], "workers");
        assert_eq!(bodies[0]["text"], "5 of 8 are silent");
        assert!(
            chat.tokens
                .lock()
                .unwrap()
                .iter()
                .all(|token| token == "Bearer secret")
        );
    }

    #[tokio::test]
    async fn a_refusal_is_not_tried_again_and_the_next_notice_goes_out() {
        let (chat, notifier, metrics) = chat(&[404]).await;
        notifier.tell(&notice("first"));
        notifier.tell(&notice("second"));
        until(&metrics, "rhizome_notifications_total{outcome=\"sent\"} 1").await;
        until(
            &metrics,
            "rhizome_notifications_total{outcome=\"failed\"} 1",
        )
        .await;
        assert_eq!(chat.posts.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_server_that_stays_ill_is_given_up_and_a_full_queue_drops() {
        let (chat, notifier, metrics) = chat(&[503; 9]).await;
        for _ in 0..QUEUE + 2 {
            notifier.tell(&notice("again"));
        }
        until(&metrics, "rhizome_notifications_total{outcome=\"dropped\"}").await;
        until(
            &metrics,
            "rhizome_notifications_total{outcome=\"failed\"} 1",
        )
        .await;
        assert!(chat.posts.load(Ordering::SeqCst) >= TRIES);
    }
}
