//! Three facilitators on one PostgreSQL database, behind a balancer that knows nothing but TCP: any of them is killed, cut off
//! from the database, or the database itself is killed, under load. Whoever ends is started again, as by systemd.

use super::process::{PATIENCE, POLL, Process};
use super::server::Server;
use super::{Load, Result, Shop, ground, settle_and_leave};
use anyhow::ensure;
use rand::Rng;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tallybook_cli::demo::Ground;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

const NODES: usize = 3;
/// For how long a node is cut off: longer than it takes to notice.
const CUT: Duration = Duration::from_secs(3);

/// A way of TCP to one of several places, that can be cut.
struct Way {
    port: u16,
    is_cut: watch::Sender<bool>,
}

impl Way {
    /// Each connection goes to the next place that takes it.
    async fn to(places: Vec<String>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let (is_cut, cut) = watch::channel(false);
        let next = Arc::new(AtomicUsize::new(0));
        tokio::spawn(async move {
            while let Ok((from, _)) = listener.accept().await {
                let (places, next, mut cut) = (places.clone(), Arc::clone(&next), cut.clone());
                tokio::spawn(async move {
                    if *cut.borrow() {
                        return;
                    }
                    for _ in 0..places.len() {
                        let place = &places[next.fetch_add(1, Ordering::Relaxed) % places.len()];
                        let Ok(to) = TcpStream::connect(place).await else { continue };
                        return carry(from, to, &mut cut).await;
                    }
                });
            }
        });
        Ok(Self { port, is_cut })
    }

    fn cut(&self, cut: bool) {
        self.is_cut.send_replace(cut);
    }
}

async fn carry(mut from: TcpStream, mut to: TcpStream, cut: &mut watch::Receiver<bool>) {
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut from, &mut to) => {}
        _ = cut.wait_for(|cut| *cut) => {}
    }
}

/// Three nodes, each with its own way to the database.
struct Town {
    server: Server,
    database: String,
    nodes: Vec<Process>,
    ways: Vec<Way>,
    took_over: Arc<AtomicBool>,
}

impl Town {
    async fn begin(ground: &Ground) -> Result<Self> {
        let server = tokio::task::spawn_blocking(Server::start).await?;
        let database = server.database();
        let name = database.rsplit('/').next().unwrap_or_default().to_owned();
        let (mut nodes, mut ways) = (Vec::new(), Vec::new());
        for number in 0..NODES {
            let way = Way::to(vec![format!("127.0.0.1:{}", server.port())]).await?;
            nodes.push(Process::node(ground, number, &server.url(&name, way.port)).await?);
            ways.push(way);
        }
        Ok(Self { server, database, nodes, ways, took_over: Arc::default() })
    }

    /// The number of the node that has the database, once one has.
    async fn owner(&mut self) -> Result<usize> {
        let began = Instant::now();
        let asked = "SELECT application_name FROM pg_locks JOIN pg_stat_activity USING (pid)
                     WHERE locktype = 'advisory' AND granted AND classid = 1413641843 AND datname = current_database()";
        while began.elapsed() < PATIENCE {
            self.revive()?;
            let name = self.server.sql(&self.database, asked);
            if let Some(number) = self.nodes.iter().position(|node| name == format!("tallybook at {}", node.url())) {
                return Ok(number);
            }
            tokio::time::sleep(POLL).await;
        }
        anyhow::bail!("nobody takes the database")
    }

    /// What systemd does.
    fn revive(&mut self) -> Result<()> {
        self.nodes.iter_mut().try_for_each(|node| node.revive().map(drop))
    }

    /// Somebody answers again, and it is another one.
    async fn taken_over(&mut self, from: usize, load: &Load) -> Result<()> {
        let owner = self.owner().await?;
        if owner != from {
            self.took_over.store(true, Ordering::Relaxed);
        }
        load.wait_for(20).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn given_three_facilitators_on_one_database_when_any_part_fails_under_load_then_nothing_is_lost_or_paid_twice()
-> Result<()> {
    // Given agents under way at a paid API whose facilitator is three of them, behind a balancer
    let (ground, began) = (ground().await?, Instant::now());
    let mut town = Town::begin(&ground).await?;
    let balancer = Way::to(town.nodes.iter().map(Process::host).collect()).await?;
    town.owner().await?;
    let facilitator = format!("http://127.0.0.1:{}", balancer.port);
    let shop = Shop::open(&ground.paywall(&facilitator)?, "$0.0005", 0).await?;
    let load = Load::begin(&ground, &shop.host()).await?;
    load.wait_for(100).await?;

    for _round in 0..2 {
        // When the one that works is killed, and comes back later
        let owner = town.owner().await?;
        town.nodes[owner].kill()?;
        town.taken_over(owner, &load).await?;
        // When one that waits is killed
        let owner = town.owner().await?;
        town.nodes[(owner + 1) % NODES].kill()?;
        town.taken_over(owner, &load).await?;
        // When the one that works is cut off from the database
        let owner = town.owner().await?;
        town.ways[owner].cut(true);
        town.taken_over(owner, &load).await?;
        tokio::time::sleep(CUT).await;
        town.ways[owner].cut(false);
        // When the database itself is killed
        let pause = rand::rng().random_range(0..1_500);
        town.server.kill();
        tokio::time::sleep(Duration::from_millis(pause)).await;
        town.server.restart();
        town.taken_over(NODES, &load).await?;
    }
    ensure!(town.took_over.load(Ordering::Relaxed), "another one took over");
    let answers = load.answers();
    let agents = load.end().await?;

    // Then every answer that an agent got is in the database, and nothing beyond what was signed; and all is settled, once
    town.owner().await?;
    for node in &mut town.nodes {
        node.revive()?;
        node.wait_until_healthy().await?;
    }
    for one in &agents {
        // Whoever is asked.
        for node in &town.nodes {
            one.check(node.channel(&one.channel).await?.charged)?;
        }
    }
    settle_and_leave(&ground, &town.nodes[0], &agents).await?;
    eprintln!("three facilitators, {answers} answers, in {:?}", began.elapsed());
    Ok(())
}
