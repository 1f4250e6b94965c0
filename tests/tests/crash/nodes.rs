//! Three facilitators at work on one PostgreSQL database, each on its part of the books, behind a balancer that knows nothing but
//! TCP: any of them is killed, cut off from the database, or the database itself is killed, under load on all books. Whoever ends
//! is started again, as by systemd.

use super::process::{PATIENCE, POLL, Process};
use super::server::Server;
use super::{Load, Result, Shop, Worker, ground, settle_and_leave_book};
use anyhow::ensure;
use rand::Rng;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tallybook_chain::BookView;
use tallybook_cli::demo::Ground;
use tallybook_rules::Amount;
use tallybook_wire::Key;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

const NODES: usize = 3;
/// With the payments by `exact`, which are held as a book is, two for each node.
const BOOKS: usize = 5;
const AGENTS_OF_A_BOOK: usize = 2;
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

/// Nodes, each with its own way to the database.
struct Town {
    server: Server,
    database: String,
    books: Vec<BookView>,
    nodes: Vec<Process>,
    ways: Vec<Way>,
}

impl Town {
    async fn begin(ground: &Ground, nodes: usize) -> Result<Self> {
        let server = tokio::task::spawn_blocking(Server::start).await?;
        let database = server.database();
        let mut books = vec![ground.book];
        while books.len() < BOOKS {
            books.push(ground.another_book().await?);
        }
        let mut town = Self { server, database, books, nodes: Vec::new(), ways: Vec::new() };
        for _ in 0..nodes {
            town.add_node(ground).await?;
        }
        Ok(town)
    }

    async fn add_node(&mut self, ground: &Ground) -> Result<()> {
        let name = self.database.rsplit('/').next().unwrap_or_default();
        let way = Way::to(vec![format!("127.0.0.1:{}", self.server.port())]).await?;
        let url = self.server.url(name, way.port);
        self.nodes.push(Process::node(ground, &self.books, self.nodes.len(), &url)?);
        self.ways.push(way);
        Ok(())
    }

    /// How many books each node works on, by the word of the server.
    fn held(&self) -> Vec<usize> {
        let asked = "SELECT application_name, count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)
                     WHERE locktype = 'advisory' AND granted AND objsubid = 1 AND datname = current_database()
                     GROUP BY application_name";
        let said = self.server.sql(&self.database, asked);
        let of = |node: &Process| {
            let name = format!("tallybook at {}|", node.url());
            said.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok()).unwrap_or(0)
        };
        self.nodes.iter().map(of).collect()
    }

    /// Waits until every book has a node, and every node its part if `evenly`. Whoever has ended is started again.
    async fn shared(&mut self, evenly: bool) -> Result<Vec<usize>> {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            self.revive()?;
            let held = self.held();
            let is_even = held.iter().max().zip(held.iter().min()).is_some_and(|(most, least)| most - least <= 1);
            if held.iter().sum::<usize>() == BOOKS + 1 && (is_even || !evenly) {
                return Ok(held);
            }
            tokio::time::sleep(POLL * 10).await;
        }
        anyhow::bail!("the books are not shared: {:?}", self.held())
    }

    /// What systemd does.
    fn revive(&mut self) -> Result<()> {
        self.nodes.iter_mut().try_for_each(|node| node.revive().map(drop))
    }

    /// Somebody works on every book again, and agents are answered by all of them.
    async fn goes_on(&mut self, loads: &[Load]) -> Result<()> {
        self.shared(false).await?;
        self.answered(loads, 10).await
    }

    async fn answered(&mut self, loads: &[Load], calls: u64) -> Result<()> {
        for load in loads {
            load.wait_for(calls).await?;
        }
        Ok(())
    }

    /// A shop for each book, at `facilitator`, and agents that buy there.
    async fn trade(&self, ground: &Ground, facilitator: &str) -> Result<(Vec<Shop>, Vec<Load>)> {
        let (mut shops, mut loads) = (Vec::new(), Vec::new());
        for book in &self.books {
            let shop = Shop::open(&ground.paywall_of(facilitator, book)?, "$0.0005", 0).await?;
            loads.push(Load::of(ground, &shop.host(), AGENTS_OF_A_BOOK).await?);
            shops.push(shop);
        }
        Ok((shops, loads))
    }

    /// Every answer that an agent got is in the database, whoever is asked, and nothing beyond what was signed; and all is
    /// settled, once.
    async fn add_up(&mut self, ground: &Ground, agents: &[Vec<Worker>]) -> Result<()> {
        for node in &mut self.nodes {
            node.revive()?;
            node.wait_until_healthy().await?;
        }
        self.shared(true).await?;
        for (book, agents) in self.books.iter().zip(agents) {
            for one in agents {
                for node in &self.nodes {
                    one.check(node.channel(&one.channel).await?.charged)?;
                }
            }
            settle_and_leave_book(ground, book, &self.nodes[0], agents).await?;
        }
        // Whoever is asked, a page is paid out by who holds its book.
        for book in &self.books {
            let page = Key(ground.page_of(book).await?.address.to_bytes());
            for node in &self.nodes {
                let paid = node.pay_out(ground, &page).await?;
                ensure!((paid.page, paid.owed, paid.left) == (page, Amount::ZERO, Amount::ZERO), "{paid:?}");
            }
        }
        // Two nodes never number a batch the same, and several have claimed.
        let claimed = "SELECT count(DISTINCT id % 64) FROM tallybook.batch";
        let claimed: usize = self.server.sql(&self.database, claimed).parse()?;
        ensure!(claimed > 1, "one node has claimed everything");
        Ok(())
    }
}

async fn ended(loads: Vec<Load>) -> Result<Vec<Vec<Worker>>> {
    let mut agents = Vec::new();
    for load in loads {
        agents.push(load.end().await?);
    }
    Ok(agents)
}

#[tokio::test(flavor = "multi_thread")]
async fn given_three_facilitators_at_work_on_one_database_when_any_part_fails_under_load_then_nothing_is_lost_or_paid_twice()
-> Result<()> {
    // Given agents under way at paid APIs of several payees, whose facilitator is three of them behind a balancer
    let (ground, began) = (ground().await?, Instant::now());
    let mut town = Town::begin(&ground, NODES).await?;
    let balancer = Way::to(town.nodes.iter().map(Process::host).collect()).await?;
    let (_shops, loads) = town.trade(&ground, &format!("http://127.0.0.1:{}", balancer.port)).await?;
    let held = town.shared(true).await?;
    ensure!(held.iter().all(|books| *books > 0), "all of them work at the same time: {held:?}");
    town.answered(&loads, 20).await?;
    for node in &town.nodes {
        ensure!(
            node.metric("tallybook_books_held", "").await? > 0.0
                && node.metric("tallybook_changes_total", "").await? > 0.0
        );
        ensure!(node.metric("tallybook_handed_on_total", "").await? > 0.0, "any of them takes any request");
    }

    for round in 0..2 {
        // When one of them is killed, at a random moment of its work
        town.nodes[(round + 1) % NODES].kill()?;
        town.goes_on(&loads).await?;
        // When another is cut off from the database
        let cut = (round + 2) % NODES;
        town.ways[cut].cut(true);
        town.goes_on(&loads).await?;
        tokio::time::sleep(CUT).await;
        town.ways[cut].cut(false);
        // When the database itself is killed
        let pause = rand::rng().random_range(0..1_500);
        town.server.kill();
        tokio::time::sleep(Duration::from_millis(pause)).await;
        town.server.restart();
        town.goes_on(&loads).await?;
    }
    let answers: u64 = loads.iter().map(Load::answers).sum();
    let agents = ended(loads).await?;

    // Then nothing of what was answered is lost, and all is settled once
    town.add_up(&ground, &agents).await?;
    eprintln!("three facilitators at work, {answers} answers, in {:?}", began.elapsed());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn given_load_when_facilitators_join_and_leave_then_each_has_its_part_and_no_call_fails() -> Result<()> {
    // Given one facilitator that works on all books, and agents under way
    let (ground, began) = (ground().await?, Instant::now());
    let mut town = Town::begin(&ground, 1).await?;
    town.nodes[0].wait_until_healthy().await?;
    let facilitator = town.nodes[0].url();
    let (_shops, loads) = town.trade(&ground, &facilitator).await?;
    ensure!(town.shared(true).await? == [BOOKS + 1]);
    town.answered(&loads, 20).await?;

    // When two others come
    town.add_node(&ground).await?;
    town.add_node(&ground).await?;
    let held = town.shared(true).await?;
    ensure!(held == [2, 2, 2], "{held:?}");
    town.answered(&loads, 20).await?;
    // And one of them takes its leave
    town.nodes[1].terminate()?;
    let left = town.held();
    ensure!(left[1] == 0, "it has left its books: {left:?}");
    town.answered(&loads, 20).await?;
    let refused = "status=\"5";
    for node in [&town.nodes[0], &town.nodes[2]] {
        ensure!(node.metric("tallybook_requests_total", refused).await? == 0.0, "somebody was refused");
    }
    let answers: u64 = loads.iter().map(Load::answers).sum();
    let agents = ended(loads).await?;

    // Then no agent had a call fail, and everything adds up
    for one in agents.iter().flatten() {
        ensure!(
            (one.uncertain, one.refused) == (0, 0),
            "a call failed: {} lost, {} refused",
            one.uncertain,
            one.refused
        );
    }
    town.add_up(&ground, &agents).await?;
    eprintln!("facilitators that came and went, {answers} answers, in {:?}", began.elapsed());
    Ok(())
}
