use anyhow::{Context, Result, bail};
use std::net::TcpListener;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use surfpool_core::start_local_surfnet;
use surfpool_core::surfnet::svm::{SurfnetSvm, SurfnetSvmConfig};
use surfpool_types::channel::{RecvTimeoutError, Sender, unbounded};
use surfpool_types::{
    BlockProductionMode, RpcConfig, SimnetCommand, SimnetConfig, SimnetEvent, SurfpoolConfig, SvmFeatureConfig,
};

/// Transactions of 4,096 bytes: active on mainnet later than the feature list that the chain is built with.
const TRANSACTION_V1: &str = "txv1aq4pp281K9um3tnPgkfX8UqtFT6wcVW3hNezGLL";
const HOST: &str = "127.0.0.1";
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// Another process may take a free port between finding and binding it.
const PORT_ATTEMPTS: usize = 5;

/// Where the chain listens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ports {
    /// These two; fails when one is taken.
    Fixed {
        /// JSON-RPC.
        rpc: u16,
        /// WebSocket; command line tools expect it at `rpc + 1`.
        ws: u16,
    },
    /// Two that are free.
    Free,
}

impl Ports {
    /// Where every Solana tool looks for a local chain.
    pub const USUAL: Self = Self::Fixed { rpc: 8899, ws: 8900 };

    fn pick(self) -> Result<(u16, u16)> {
        match self {
            Self::Fixed { rpc, ws } => Ok((rpc, ws)),
            Self::Free => {
                let rpc = TcpListener::bind((HOST, 0))?;
                let ws = TcpListener::bind((HOST, 0))?;
                Ok((rpc.local_addr()?.port(), ws.local_addr()?.port()))
            }
        }
    }
}

/// When blocks are made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Blocks {
    /// One each time that this much has passed, as on a real cluster: blockhashes expire after 150 blocks, finality
    /// comes after 32.
    Every(Duration),
    /// With each transaction, and then at once until it is final. Quickest, but blockhashes expire after a handful
    /// of transactions and the clock jumps.
    PerTransaction,
}

impl Blocks {
    fn slot_milliseconds(self) -> Result<u64> {
        let time = match self {
            Self::Every(time) => time,
            Self::PerTransaction => Duration::from_millis(10),
        };
        Ok(u64::try_from(time.as_millis())?.max(1))
    }

    const fn mode(self) -> BlockProductionMode {
        match self {
            Self::Every(_) => BlockProductionMode::Clock,
            Self::PerTransaction => BlockProductionMode::Transaction,
        }
    }
}

/// The chain's threads. Stopped when dropped.
pub(super) struct Node {
    rpc_port: u16,
    ws_port: u16,
    commands: Sender<SimnetCommand>,
    thread: Option<JoinHandle<()>>,
}

impl Node {
    /// Blocks until the chain serves; `v1` says whether it takes transactions of version 1.
    pub(super) fn start(ports: Ports, blocks: Blocks, v1: bool) -> Result<Self> {
        let attempts = if ports == Ports::Free { PORT_ATTEMPTS } else { 1 };
        let mut outcome = Self::try_start(ports.pick()?, blocks, v1);
        for _ in 1..attempts {
            if outcome.is_ok() {
                break;
            }
            outcome = Self::try_start(ports.pick()?, blocks, v1);
        }
        outcome
    }

    fn try_start((rpc_port, ws_port): (u16, u16), blocks: Blocks, v1: bool) -> Result<Self> {
        let (commands, commands_received) = unbounded();
        let (report, reported) = mpsc::channel();
        let own_commands = commands.clone();
        let slot_milliseconds = blocks.slot_milliseconds()?;
        let thread = std::thread::Builder::new().name("chain".into()).spawn(move || {
            let outcome = (|| -> Result<()> {
                let (mut svm, events, geyser_events) =
                    SurfnetSvm::new(svm_config(slot_milliseconds, v1)?).map_err(|error| anyhow::anyhow!("{error}"))?;
                // The genesis hash is made from this, and else from the second of the start: two chains of one second
                // would be one cluster, on which the same vouchers count.
                svm.genesis_config.creation_time = rand::random();
                std::thread::Builder::new().name("chain-events".into()).spawn({
                    let report = report.clone();
                    move || drain(&events, &report)
                })?;
                let config = surfpool_config(rpc_port, ws_port, slot_milliseconds, blocks);
                let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
                runtime
                    .block_on(start_local_surfnet(svm, config, own_commands, commands_received, geyser_events))
                    .map_err(|error| anyhow::anyhow!("{error}"))
            })();
            // Whoever waits for the start has gone by the time that a running chain stops.
            drop(report.send(outcome));
        })?;
        reported
            .recv_timeout(START_TIMEOUT)
            .context("the local chain did not start in time")?
            .with_context(|| format!("the local chain cannot listen on ports {rpc_port} and {ws_port}"))?;
        Ok(Self { rpc_port, ws_port, commands, thread: Some(thread) })
    }

    pub(super) fn rpc_url(&self) -> String {
        format!("http://{HOST}:{}", self.rpc_port)
    }

    pub(super) fn ws_url(&self) -> String {
        format!("ws://{HOST}:{}", self.ws_port)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.commands.send(SimnetCommand::Terminate(None)).is_ok()
            && let Some(thread) = self.thread.take()
        {
            // A panic of the chain's thread was printed where it happened; there is nothing more to stop.
            drop(thread.join());
        }
    }
}

/// Reads the chain's events until it stops: they pile up in memory otherwise. Reports the start.
fn drain(events: &surfpool_types::channel::Receiver<SimnetEvent>, report: &mpsc::Sender<Result<()>>) {
    let began = Instant::now();
    loop {
        match events.recv_timeout(START_TIMEOUT) {
            Ok(SimnetEvent::CoreStarted(_)) => {
                tracing::debug!(elapsed = ?began.elapsed(), "local chain started");
                drop(report.send(Ok(())));
            }
            Ok(SimnetEvent::ErrorLog(_, message)) => tracing::debug!(%message, "local chain"),
            Ok(_) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn svm_config(slot_milliseconds: u64, v1: bool) -> Result<SurfnetSvmConfig> {
    let transaction_v1 = TRANSACTION_V1.parse();
    let Ok(transaction_v1) = transaction_v1 else {
        bail!("{TRANSACTION_V1} is no address");
    };
    let features = SvmFeatureConfig::default();
    Ok(SurfnetSvmConfig {
        feature_config: if v1 { features.enable(transaction_v1) } else { features },
        slot_time: slot_milliseconds,
        instruction_profiling_enabled: false,
        ..SurfnetSvmConfig::default()
    })
}

fn surfpool_config(rpc_port: u16, ws_port: u16, slot_milliseconds: u64, blocks: Blocks) -> SurfpoolConfig {
    SurfpoolConfig {
        simnets: vec![SimnetConfig {
            // Its default fetches missing accounts from mainnet.
            offline_mode: true,
            remote_rpc_url: None,
            slot_time: slot_milliseconds,
            block_production_mode: blocks.mode(),
            instruction_profiling_enabled: false,
            ..SimnetConfig::default()
        }],
        rpc: RpcConfig { bind_host: HOST.into(), bind_port: rpc_port, ws_port, ..RpcConfig::default() },
        ..SurfpoolConfig::default()
    }
}
