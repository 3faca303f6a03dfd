//! A way to a server on which answers get lost: every call arrives and is done, and nobody hears of it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// What is lost, from the first call on that carries a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// The answer to that call: its connection is cut instead. Everything after it is well.
    OneAnswer,
    /// Every answer on every connection, until the wire is mended.
    AllAnswers,
}

/// Passes bytes on, both ways. Cuts all its connections when dropped.
pub(crate) struct Wire {
    address: SocketAddr,
    plan: Arc<Mutex<Plan>>,
    _connections: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Plan {
    loss: Option<(Loss, String)>,
    /// The call was seen.
    begun: bool,
    lost: usize,
}

/// What becomes of an answer.
enum Fate {
    Arrives,
    Vanishes,
    CutsTheConnection,
}

impl Wire {
    /// Begins to pass on to a server, by its `host:port`.
    pub(crate) async fn to(server: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("bind")?;
        let address = listener.local_addr()?;
        let plan = Arc::new(Mutex::new(Plan::default()));
        let mut connections = JoinSet::new();
        connections.spawn(accept(listener, server.to_owned(), Arc::clone(&plan)));
        Ok(Self {
            address,
            plan,
            _connections: connections,
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Loses answers from the next call on that carries a text.
    pub(crate) fn lose(&self, loss: Loss, text: &str) {
        *self.plan() = Plan {
            loss: Some((loss, text.to_owned())),
            ..Plan::default()
        };
    }

    /// Loses nothing more.
    pub(crate) fn mend(&self) {
        self.plan().loss = None;
    }

    /// How many answers were lost since [`Self::lose`].
    pub(crate) fn lost(&self) -> usize {
        self.plan().lost
    }

    fn plan(&self) -> std::sync::MutexGuard<'_, Plan> {
        self.plan.lock().expect("nothing panics with it")
    }
}

impl Plan {
    /// Tells whether a call is the one whose answer is to be lost.
    fn begins_with(&mut self, call: &[u8]) -> bool {
        let is_it = self.loss.as_ref().is_some_and(|(_, text)| {
            let text = text.as_bytes();
            call.windows(text.len()).any(|part| part == text)
        });
        self.begun |= is_it;
        is_it
    }

    fn judge(&mut self, answers_the_call: bool) -> Fate {
        let fate = match &self.loss {
            Some((Loss::OneAnswer, _)) if answers_the_call => Fate::CutsTheConnection,
            Some((Loss::AllAnswers, _)) if self.begun => Fate::Vanishes,
            _ => return Fate::Arrives,
        };
        self.lost += 1;
        if matches!(fate, Fate::CutsTheConnection) {
            self.loss = None;
        }
        fate
    }
}

async fn accept(listener: TcpListener, server: String, plan: Arc<Mutex<Plan>>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let (server, plan) = (server.clone(), Arc::clone(&plan));
        connections.spawn(async move {
            // Whatever ends a connection ends it for both sides.
            let _ = carry(client, &server, &plan).await;
        });
    }
}

async fn carry(mut client: TcpStream, server: &str, plan: &Mutex<Plan>) -> std::io::Result<()> {
    let mut server = TcpStream::connect(server).await?;
    let (mut calls, mut answers) = (vec![0; 65_536], vec![0; 65_536]);
    let mut is_the_call = false;
    loop {
        tokio::select! {
            read = client.read(&mut calls) => {
                let call = &calls[..read?];
                if call.is_empty() {
                    return Ok(());
                }
                is_the_call = plan.lock().expect("nothing panics with it").begins_with(call);
                server.write_all(call).await?;
            }
            read = server.read(&mut answers) => {
                let answer = &answers[..read?];
                if answer.is_empty() {
                    return Ok(());
                }
                let fate = plan.lock().expect("nothing panics with it").judge(is_the_call);
                match fate {
                    Fate::Arrives => client.write_all(answer).await?,
                    Fate::Vanishes => {}
                    Fate::CutsTheConnection => return Ok(()),
                }
            }
        }
    }
}
