//! The client of a running engine's API.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::Problem;
use crate::exit::Exit;

/// How long an answer is waited for: a little longer than the server waits for its engine.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Which engine, and with what right.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ServerArgs {
    /// The engine's address.
    #[arg(long, env = "RHIZOME_SERVER", default_value = "http://127.0.0.1:8420")]
    server: String,
    /// A file that holds a bearer token.
    #[arg(long, env = "RHIZOME_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// A CA to trust beside the system's, PEM.
    #[arg(long, env = "RHIZOME_CA")]
    ca: Option<PathBuf>,
}

/// Why there is no answer, and what to do.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    /// A file of the arguments cannot be used.
    #[error("`{}` cannot be used: {why}", path.display())]
    File {
        /// It.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Nobody answers.
    #[error(
        "no engine answers at `{server}` ({why}): is `rhizome run` up there? Name another with `--server` or RHIZOME_SERVER"
    )]
    NoAnswer {
        /// Where.
        server: String,
        /// Why.
        why: String,
    },
    /// It does not know us.
    #[error("`{0}` does not know you: name a token with `--token-file` or RHIZOME_TOKEN_FILE")]
    Unknown(String),
    /// It says why not.
    #[error("{0}")]
    Refused(String),
    /// It says what is wrong with the request itself.
    #[error("{0}")]
    Malformed(String),
    /// It is something else.
    #[error("what answers at `{server}` is no Rhizome of this version: {why}")]
    Foreign {
        /// Where.
        server: String,
        /// Why.
        why: String,
    },
}

impl ClientError {
    /// How the command ends for it.
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::Malformed(_) => Exit::Usage,
            Self::File { .. }
            | Self::NoAnswer { .. }
            | Self::Unknown(_)
            | Self::Refused(_)
            | Self::Foreign { .. } => Exit::Failed,
        }
    }
}

/// The client.
pub(super) struct Client {
    http: reqwest::Client,
    server: String,
    token: Option<String>,
}

impl ServerArgs {
    pub(super) fn client(&self) -> Result<Client, ClientError> {
        let read = |path: &PathBuf| {
            std::fs::read_to_string(path).map_err(|error| ClientError::File {
                path: path.clone(),
                why: error.to_string(),
            })
        };
        let token = self.token_file.as_ref().map(read).transpose()?;
        let mut builder = reqwest::Client::builder().timeout(TIMEOUT);
        if let Some(path) = &self.ca {
            let bad = |error: reqwest::Error| ClientError::File {
                path: path.clone(),
                why: error.to_string(),
            };
            let pem = read(path)?;
            let certificate = reqwest::Certificate::from_pem(pem.as_bytes()).map_err(bad)?;
            builder = builder.add_root_certificate(certificate);
        }
        let http = builder.build().map_err(|error| ClientError::NoAnswer {
            server: self.server.clone(),
            why: error.to_string(),
        })?;
        Ok(Client {
            http,
            server: self.server.trim_end_matches('/').to_owned(),
            token: token.map(|token| token.trim_end().to_owned()),
        })
    }
}

impl Client {
    /// Reads `path`.
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<T, ClientError> {
        let request = self.http.get(format!("{}{path}", self.server)).query(query);
        self.send(request, &[]).await
    }

    /// Asks a probe at `path`: what it says if all is well.
    pub(super) async fn probe(&self, path: &str) -> Result<String, ClientError> {
        let no_answer = |error: reqwest::Error| ClientError::NoAnswer {
            server: self.server.clone(),
            why: deepest(&error),
        };
        let request = self.http.get(format!("{}{path}", self.server));
        let answer = request.send().await.map_err(no_answer)?;
        let well = answer.status().is_success();
        let text = answer.text().await.map_err(no_answer)?;
        if well {
            Ok(text)
        } else {
            Err(ClientError::Refused(text.trim().to_owned()))
        }
    }

    /// Posts to `path`. An answer with one of the codes `too` is an answer too.
    pub(super) async fn post<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
        too: &[u16],
    ) -> Result<T, ClientError> {
        let request = self.http.post(format!("{}{path}", self.server)).json(body);
        self.send(request, too).await
    }

    async fn send<T: DeserializeOwned>(
        &self,
        mut request: reqwest::RequestBuilder,
        too: &[u16],
    ) -> Result<T, ClientError> {
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let no_answer = |error: reqwest::Error| ClientError::NoAnswer {
            server: self.server.clone(),
            why: deepest(&error),
        };
        let answer = request.send().await.map_err(no_answer)?;
        let status = answer.status();
        let body = answer.bytes().await.map_err(no_answer)?;
        match status.as_u16() {
            401 => return Err(ClientError::Unknown(self.server.clone())),
            403 => {
                let why = String::from_utf8_lossy(&body).trim().to_owned();
                return Err(ClientError::Refused(why));
            }
            _ => {}
        }
        if status.is_success() || too.contains(&status.as_u16()) {
            if let Ok(answer) = serde_json::from_slice(&body) {
                return Ok(answer);
            }
            if status.is_success() {
                return Err(self.foreign(format!(
                    "its answer of {} bytes is not understood",
                    body.len()
                )));
            }
        }
        match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) if status.as_u16() == 400 => Err(ClientError::Malformed(problem.error)),
            Ok(problem) => Err(ClientError::Refused(problem.error)),
            Err(_) => Err(self.foreign(format!("it answers {status}"))),
        }
    }

    fn foreign(&self, why: String) -> ClientError {
        ClientError::Foreign {
            server: self.server.clone(),
            why,
        }
    }
}

/// The last of an error's causes: the one that says what happened.
fn deepest(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
