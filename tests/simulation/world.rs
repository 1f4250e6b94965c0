//! One world: everybody in it, and the driver who decides what happens when.

use crate::agent::{Agent, Phase, Times};
use crate::chain::SimChain;
use crate::disk::{self, Disk};
use crate::endpoint::{Endpoint, Weather};
use crate::ground::{AGENTS, Ground, Kind, key};
use crate::laws::Laws;
use crate::line::Line;
use crate::rival;
use crate::shop::Shop;
use crate::trace::Trace;
use crate::truth::{Counts, Truth};
use crate::virtual_time::{self, Process, now};
use axum::Router;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use solana_keypair::Keypair;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock, Mutex};
use tallybook_facilitator::{Config, Facilitator};
use tempfile::TempDir;

/// A step of the driver while there is trouble, while there is none, and while grace periods pass, in milliseconds.
const BUSY_STEP: u64 = 50;
const CALM_STEP: u64 = 250;
const LONG_STEP: u64 = 500;
/// How long it may take until nothing is under way and all is settled, once the trouble is over: a blockhash expires in a
/// minute and a half, a row that was refused rests for half a minute, and the wall clock may have been two minutes ahead.
const CALM_MILLISECONDS: u64 = 600_000;
/// How long leaving may take: a grace period, and once more the same.
const LEAVING_MILLISECONDS: u64 = 900_000 + CALM_MILLISECONDS;

/// How a world ended.
pub(crate) struct Ended {
    /// The law that broke, if one did.
    pub(crate) broken: Option<String>,
    pub(crate) hash: [u8; 32],
    pub(crate) lines: u64,
    pub(crate) counts: Counts,
    pub(crate) last: Vec<String>,
}

/// Lives one world through. Runs on a thread of its own.
pub(crate) fn live(seed: u64) -> Ended {
    virtual_time::enter(seed);
    let mut world = World::new(seed);
    let broken = world.run().err();
    let (hash, lines) = world.trace.sum();
    let counts = Counts { forks: world.endpoint.chain(|chain| chain.forks), ..world.truth.lock().counts };
    Ended { broken, hash, lines, counts, last: world.trace.last() }
}

/// Makes what all worlds share, outside of any: the first one would draw other dice than the same one again. Some of it
/// is made within the libraries when they are first used, so one world is lived for nothing.
pub(crate) fn prepare() {
    for kind in [Kind::OneLeg, Kind::TwoLegs, Kind::NoAccount] {
        Ground::of(kind);
    }
    sponsor();
    disk::empty();
    let first = std::thread::spawn(|| live(0));
    drop(first.join());
}

struct World {
    random: StdRng,
    trace: Trace,
    truth: Truth,
    endpoint: Endpoint,
    disk: Disk,
    line: Line,
    times: Times,
    clients: Process,
    facilitator: Option<Running>,
    restart_at: u64,
    config: Config,
    laws: Laws,
    trouble: Trouble,
}

/// The facilitator's process.
struct Running {
    process: Process,
    /// Its routes, once it has begun to serve; or why it has not.
    begun: Arc<Mutex<Option<Result<Router, String>>>>,
    serves: bool,
}

/// How often the driver makes trouble, in thousandths of its steps.
#[derive(Clone, Copy, Default, Debug)]
struct Trouble {
    kills: u32,
    forks: u32,
    skews: u32,
    /// Of the writes to the disk.
    disk: u32,
    /// Of what goes between resource server and facilitator.
    line: u32,
}

impl Trouble {
    fn of(random: &mut StdRng) -> Self {
        let mut one = |often: [u32; 4]| often[random.random_range(0..4)];
        Self {
            kills: one([0, 1, 4, 10]),
            forks: one([0, 0, 0, 5]),
            skews: one([0, 0, 1, 4]),
            disk: one([0, 0, 5, 30]),
            line: one([0, 0, 20, 100]),
        }
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let kinds = [Kind::OneLeg, Kind::OneLeg, Kind::TwoLegs, Kind::NoAccount];
        let kind = kinds[random.random_range(0..4)];
        let ground = Ground::of(kind);
        let (weather, trouble) = (Weather::of(&mut random), Trouble::of(&mut random));
        let (trace, truth, times) = (Trace::default(), Truth::default(), Times::default());
        let config = config(ground, kind, &mut random);
        trace.note(format_args!("{kind:?} {weather:?} {trouble:?} {:?} {:?}", config.settlement, config.limits));
        let endpoint = Endpoint::new(SimChain::new(ground, trace.clone()), weather, random.random());
        let disk = Disk::new(random.random(), trace.clone());
        disk.switch.fails.store(trouble.disk, Ordering::Relaxed);
        let line = Line::new(trouble.line, random.random(), trace.clone());
        let clients = Process::start();
        for number in 0..random.random_range(1..=AGENTS) {
            let shop = Shop::new(ground, line.clone(), truth.clone(), trace.clone(), random.random());
            let agent = Agent::new(number, shop, endpoint.clone(), times.clone(), random.random());
            times.agents.fetch_add(1, Ordering::Relaxed);
            clients.spawn(agent.live());
        }
        if random.random_ratio(1, 3) {
            clients.spawn(rival::compete(ground, endpoint.clone(), truth.clone(), random.random()));
        }
        Self {
            laws: Laws::new(ground, truth.clone(), &config),
            random,
            trace,
            truth,
            endpoint,
            disk,
            line,
            times,
            clients,
            facilitator: None,
            restart_at: 0,
            config,
            trouble,
        }
    }

    /// A busy time, a calm one, and everybody's leaving; once or twice.
    fn run(&mut self) -> Result<(), String> {
        let (weather, trouble) = (self.endpoint.weather(), self.trouble);
        for _ in 0..self.random.random_range(1..=2) {
            self.times.set(Phase::Busy);
            self.endpoint.set_weather(weather);
            self.set_trouble(trouble);
            let until = now() + self.random.random_range(20_000..80_000);
            while now() < until {
                self.step(BUSY_STEP)?;
                self.make_trouble();
            }
            self.endpoint.set_weather(Weather::default());
            self.set_trouble(Trouble::default());
            virtual_time::set_skew(0);
            self.times.set(Phase::Calm);
            let agents = self.times.agents.load(Ordering::Relaxed);
            self.wait(CALM_MILLISECONDS, CALM_STEP, "agents are still waiting", |world| {
                Ok(world.times.idle.load(Ordering::Relaxed) == agents)
            })?;
            self.wait(CALM_MILLISECONDS, CALM_STEP, "not all is settled", Self::is_settled)?;
            self.times.set(Phase::Leaving);
            self.leave()?;
            // Until the last of it is final, and nothing that a fork took away can come again; then what has is left as well.
            let until = now() + 60_000;
            while now() < until {
                self.step(LONG_STEP)?;
            }
            self.leave()?;
        }
        self.kill();
        let mut store = self.disk.open().map_err(|failure| format!("the store does not open: {failure}"))?;
        self.laws.check_end(&self.endpoint, store.as_mut())
    }

    /// Waits until everybody has left, and all is paid out.
    fn leave(&mut self) -> Result<(), String> {
        let agents = self.times.agents.load(Ordering::Relaxed);
        self.wait(LEAVING_MILLISECONDS, LONG_STEP, "not all have left", |world| {
            Ok(world.times.gone.load(Ordering::Relaxed) == agents && world.laws.is_empty(&world.endpoint))
        })?;
        self.wait(CALM_MILLISECONDS, CALM_STEP, "not all is paid out", Self::is_settled)
    }

    fn set_trouble(&mut self, trouble: Trouble) {
        self.trouble = trouble;
        self.disk.switch.fails.store(trouble.disk, Ordering::Relaxed);
        self.line.set_loses(trouble.line);
    }

    fn wait(
        &mut self,
        most: u64,
        step: u64,
        or: &str,
        done: impl Fn(&mut Self) -> Result<bool, String>,
    ) -> Result<(), String> {
        let until = now() + most;
        while now() < until {
            for _ in 0..4 {
                self.step(step)?;
            }
            if done(self)? {
                return Ok(());
            }
        }
        Err(format!("{or}: {}", self.laws.state(&self.endpoint)))
    }

    fn is_settled(&mut self) -> Result<bool, String> {
        match self.facilitator.as_ref().filter(|running| running.serves) {
            Some(running) => self.laws.is_settled(&self.endpoint, &running.router(), &running.process),
            None => Ok(false),
        }
    }

    /// Lets a little time pass, and everybody do what they have to do then.
    fn step(&mut self, milliseconds: u64) -> Result<(), String> {
        virtual_time::pass(milliseconds);
        self.endpoint.chain(SimChain::catch_up);
        self.clients.work();
        self.keep_running();
        if let Some(running) = &self.facilitator {
            running.process.work();
        }
        self.clients.work();
        if self.disk.switch.dying.load(Ordering::Relaxed) {
            self.kill();
        }
        if let Some(broken) = self.truth.lock().broken.take() {
            return Err(broken);
        }
        self.laws.check_chain(&self.endpoint)?;
        if let Some(running) = self.facilitator.as_ref().filter(|running| running.serves) {
            self.laws.check_ledger(&self.endpoint, &running.router(), &running.process)?;
        }
        Ok(())
    }

    /// Starts the facilitator if it does not run, and lets requests go to it once it serves.
    fn keep_running(&mut self) {
        match &mut self.facilitator {
            None if now() >= self.restart_at => self.start(),
            None => {}
            Some(running) if running.serves => {}
            Some(running) => {
                let begun = running.begun.lock().unwrap().clone();
                match begun {
                    None => {}
                    Some(Ok(router)) => {
                        running.serves = true;
                        self.line.lead_to(Some((router, running.process.handle())));
                        self.trace.note(format_args!("the facilitator serves"));
                        self.laws.look_at_all();
                    }
                    Some(Err(failure)) => {
                        self.trace.note(format_args!("the facilitator does not start: {failure}"));
                        self.kill();
                    }
                }
            }
        }
    }

    fn start(&mut self) {
        let store = match self.disk.open() {
            Ok(store) => store,
            Err(failure) => {
                self.truth.breach(format!("the store does not open after a crash: {failure}"));
                return;
            }
        };
        let process = Process::start();
        let begun = Arc::new(Mutex::new(None));
        let (config, endpoint, tell) = (self.config.clone(), self.endpoint.clone(), Arc::clone(&begun));
        process.spawn(async move {
            let started = Facilitator::on_one_thread(config, endpoint, store).await;
            *tell.lock().unwrap() = Some(started.map_err(|failure| failure.to_string()));
        });
        self.facilitator = Some(Running { process, begun, serves: false });
    }

    /// Ends the facilitator's process, wherever it is, and starts it again soon.
    fn kill(&mut self) {
        self.line.lead_to(None);
        if let Some(running) = self.facilitator.take() {
            self.trace.note(format_args!("the facilitator is killed"));
            self.disk.crash();
            drop(running);
        }
        self.restart_at = now() + self.random.random_range(50..3_000);
    }

    fn make_trouble(&mut self) {
        let mut chance = |thousandths: u32| thousandths > 0 && self.random.random_ratio(thousandths, 1_000);
        let (kills, forks, skews) =
            (chance(self.trouble.kills), chance(self.trouble.forks), chance(self.trouble.skews));
        if kills {
            self.truth.count(|counts| counts.kills += 1);
            self.kill();
        }
        if forks && self.endpoint.roll_back(self.random.random_range(1..25)) {
            self.laws.forked(&self.endpoint);
        }
        if skews {
            let seconds = self.random.random_range(-120..=120);
            self.trace.note(format_args!("the wall clock is wrong by {seconds} s"));
            virtual_time::set_skew(seconds);
        }
    }
}

impl Running {
    fn router(&self) -> Router {
        let begun = self.begun.lock().unwrap();
        begun.as_ref().and_then(|begun| begun.as_ref().ok()).cloned().expect("it serves")
    }
}

/// A facilitator's configuration: as an operator may have it.
fn config(ground: &Ground, kind: Kind, random: &mut StdRng) -> Config {
    let text = format!(
        "listen = '127.0.0.1:0'\ndatabase = 'unused'\nrpc_url = 'http://127.0.0.1:1'\nsponsor = {:?}\nbooks = ['{}']",
        sponsor(),
        ground.book.address,
    );
    let mut config = Config::from_toml(&text).expect("a configuration");
    let settlement = &mut config.settlement;
    settlement.min_amount = [500, 5_000, 1_000_000_000][random.random_range(0..3)];
    settlement.max_age_seconds = [2, 10, 30][random.random_range(0..3)];
    settlement.min_rows = random.random_range(1..=4);
    settlement.rows_per_transaction = [1, 2, 23][random.random_range(0..3)];
    settlement.per_call = random.random_ratio(1, 5);
    settlement.tick_milliseconds = 1_000;
    config.limits.unfinalized_credit = [0, 3_000, 10_000_000, 10_000_000][random.random_range(0..4)];
    config.limits.deposits_per_payer_per_hour = 100_000;
    config.chain.poll_milliseconds = 2_000;
    config.chain.make_tables = false;
    config.chain.create_payee_accounts = kind == Kind::NoAccount;
    config
}

/// The sponsor's keypair file.
fn sponsor() -> &'static Path {
    static FILE: LazyLock<TempDir> = LazyLock::new(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let keypair: Keypair = key("sponsor");
        let mut options = OpenOptions::new();
        let path = folder.path().join("sponsor.json");
        let mut file = options.write(true).create_new(true).mode(0o600).open(path).expect("a new file");
        file.write_all(&serde_json::to_vec(&keypair.to_bytes().to_vec()).expect("JSON")).expect("a disk with room");
        folder
    });
    static PATH: LazyLock<std::path::PathBuf> = LazyLock::new(|| FILE.path().join("sponsor.json"));
    &PATH
}
