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
use tokio::task::JoinHandle;
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

/// How long the last notifications may take when the program stops.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// How long one try may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Where notifications are posted.
#[derive(Debug, Clone)]
pub struct Webhook {
    /// The address. Its path is often a secret.
    pub url: SecretString,
    /// A bearer token to send along.
    pub token: Option<SecretString>,
}

/// Hands notices on.
pub struct Notifier {
    cluster: Arc<str>,
    metrics: Arc<Metrics>,
    hook: Option<Hook>,
}

/// What posts to the webhook.
struct Hook {
    queue: mpsc::Sender<Notice>,
    /// Nothing more comes: what waits has [`LAST_WORDS`].
    ending: CancellationToken,
    poster: JoinHandle<()>,
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
            hook: None,
        }
    }

    /// Adds a webhook, and posts to it until it is closed.
    #[must_use]
    pub fn with_webhook(
        mut self,
        webhook: Webhook,
        client: reqwest::Client,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let poster = Poster {
            cluster: Arc::clone(&self.cluster),
            metrics: Arc::clone(&self.metrics),
            webhook,
            client,
            clock,
        };
        let ending = CancellationToken::new();
        self.hook = Some(Hook {
            queue,
            poster: tokio::spawn(poster.run(waiting, ending.clone())),
            ending,
        });
        self
    }

    /// Posts what still waits, for ten seconds at most, and says how many could not be.
    pub async fn close(self) {
        let Some(hook) = self.hook else { return };
        drop(hook.queue);
        hook.ending.cancel();
        if let Err(error) = hook.poster.await {
            tracing::error!(%error, "what posts notifications had panicked");
        }
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
        if let Some(hook) = &self.hook
            && hook.queue.try_send(notice.clone()).is_err()
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
    async fn run(self, mut waiting: mpsc::Receiver<Notice>, ending: CancellationToken) {
        let late = async {
            ending.cancelled().await;
            self.clock.sleep(LAST_WORDS).await;
        };
        tokio::pin!(late);
        while let Some(notice) = waiting.recv().await {
            tokio::select! {
                () = self.deliver(&notice) => {}
                () = &mut late => {
                    self.give_up(waiting.len() + 1);
                    return;
                }
            }
        }
    }

    fn give_up(&self, left: usize) {
        for _ in 0..left {
            self.metrics.notified("dropped");
        }
        tracing::error!(
            left,
            "the program stops, and notifications that the webhook did not take are dropped"
        );
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
            .post(self.webhook.url.expose_secret())
            .timeout(TIMEOUT)
            .json(&body);
        if let Some(token) = &self.webhook.token {
            request = request.bearer_auth(token.expose_secret());
        }
        // Without the address, which may be a secret.
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
    use rhizome_engine::time::{BoxFuture, Now, Timestamp};

    use super::*;
    use crate::clock::ScaledClock;

    /// An answer that never comes.
    const HANGS: u16 = 0;

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
        if answer == HANGS {
            std::future::pending::<()>().await;
        }
        if answer == 200 {
            chat.bodies.lock().unwrap().push(body);
        }
        StatusCode::from_u16(answer).unwrap()
    }

    /// A chat server that gives these answers in turn, then 200, and a notifier that posts to it.
    async fn chat(answers: &[u16]) -> (Arc<Chat>, Notifier, Arc<Metrics>) {
        chat_by(answers, Arc::new(ScaledClock::new(1000))).await
    }

    async fn chat_by(
        answers: &[u16],
        clock: Arc<dyn Clock>,
    ) -> (Arc<Chat>, Notifier, Arc<Metrics>) {
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
                url: url.into(),
                token: Some("secret".to_owned().into()),
            },
            reqwest::Client::new(),
            clock,
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

    /// A clock on which the last words never end, or end at once; every other wait is over at once.
    struct Ends {
        at_once: bool,
    }

    impl Clock for Ends {
        fn now(&self) -> Now {
            Now::default()
        }

        fn sleep(&self, length: Duration) -> BoxFuture<'static, ()> {
            if length == LAST_WORDS && !self.at_once {
                return Box::pin(std::future::pending());
            }
            Box::pin(tokio::task::yield_now())
        }
    }

    #[tokio::test]
    async fn the_last_notices_are_posted_before_the_end() {
        let (chat, notifier, metrics) = chat_by(&[503], Arc::new(Ends { at_once: false })).await;
        for text in ["first", "second", "third"] {
            notifier.tell(&notice(text));
        }
        notifier.close().await;
        assert_eq!(chat.bodies.lock().unwrap().len(), 3);
        let sent = "rhizome_notifications_total{outcome=\"sent\"} 3";
        assert!(metrics.encode().contains(sent), "{}", metrics.encode());
    }

    #[tokio::test]
    async fn a_webhook_that_never_answers_does_not_keep_the_program_and_what_is_lost_is_counted() {
        let (_, notifier, metrics) = chat_by(&[HANGS], Arc::new(Ends { at_once: true })).await;
        for text in ["first", "second", "third"] {
            notifier.tell(&notice(text));
        }
        notifier.close().await;
        let dropped = "rhizome_notifications_total{outcome=\"dropped\"} 3";
        assert!(metrics.encode().contains(dropped), "{}", metrics.encode());
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
