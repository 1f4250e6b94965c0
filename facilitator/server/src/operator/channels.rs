//! Channels and where each stands: found by id, by payer or by the beginning of either. A question looks at some of them and
//! says where to look on, so that it costs little however many there are.

use super::figures::{key, number, tokens};
use super::layout::table;
use super::refused::Refused;
use crate::app::App;
use crate::problem::Problem;
use maud::{Markup, html};
use serde::Deserialize;
use std::collections::BTreeMap;
use tallybook_ledger::{Channel, Ledger};
use tallybook_rules::Amount;
use tallybook_settler::Chain;
use tallybook_wire::Key;

/// Rows of one answer.
const ROWS: usize = 50;
/// Pages of one look at the desk, and looks of one question: some 25,000 channels.
const PAGES_AT_ONCE: usize = 8;
const LOOKS: usize = 32;
/// The longest beginning of an id: hexadecimal digits of all of it.
const MAX_TEXT_BYTES: usize = 64;

/// What is asked, as it stands in the address.
#[derive(Deserialize, Default, Debug)]
pub(super) struct Question {
    /// An id or a payer, or the beginning of one.
    #[serde(default)]
    q: String,
    #[serde(default)]
    state: String,
    /// Where to look on, as an answer before has said.
    #[serde(default)]
    after: String,
}

/// In which state a channel has to be.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum Wanted {
    #[default]
    Any,
    Open,
    Closing,
    Unclaimed,
    Reserved,
}

const STATES: [(Wanted, &str, &str); 5] = [
    (Wanted::Any, "", "any state"),
    (Wanted::Open, "open", "open"),
    (Wanted::Closing, "closing", "closing"),
    (Wanted::Unclaimed, "unclaimed", "something unclaimed"),
    (Wanted::Reserved, "reserved", "a call under way"),
];

/// A question that can be answered.
#[derive(Clone, Debug)]
struct Search {
    text: String,
    wanted: Wanted,
    from: Cursor,
}

/// A page, and the first of its slots that counts.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Cursor {
    page: [u8; 32],
    slot: u8,
}

/// A channel that was found.
#[derive(Clone, Copy, Debug)]
struct Found {
    channel: Channel,
    book: [u8; 32],
    is_reserved: bool,
}

/// What was found, and where to look on; none when that was all.
struct Answer {
    found: Vec<Found>,
    next: Option<Cursor>,
    looked_at: usize,
}

impl Search {
    fn of(question: &Question) -> Result<Self, Problem> {
        let refuse = |message| Err(Problem::Question(message));
        let text = question.q.trim();
        if text.len() > MAX_TEXT_BYTES || !text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return refuse("Ask for a channel's id or a payer's address in base58, or for its beginning.");
        }
        let Some((wanted, _, _)) = STATES.into_iter().find(|(_, name, _)| *name == question.state) else {
            return refuse("Ask for a state of the list: open, closing, unclaimed or reserved.");
        };
        let Some(from) = Cursor::read(&question.after) else {
            return refuse("Look on from where an answer says: its link has the place.");
        };
        // Hexadecimal digits of a whole id are that id.
        let text = match (text.len(), Key::from_base58_or_hex(text)) {
            (64, Ok(id)) => id.to_string(),
            _ => text.to_owned(),
        };
        Ok(Self { text, wanted, from })
    }

    fn takes(&self, channel: &Channel, now: i64) -> bool {
        let is_wanted = match self.wanted {
            Wanted::Any => true,
            Wanted::Open => !channel.is_closing(),
            Wanted::Closing => channel.is_closing(),
            Wanted::Unclaimed => channel.gain() > Amount::ZERO,
            Wanted::Reserved => channel.reserved(now).is_some(),
        };
        let begins = |key: &[u8; 32]| Key(*key).to_string().starts_with(&self.text);
        is_wanted && (self.text.is_empty() || begins(channel.id()) || begins(&channel.on_chain().payer))
    }
}

impl Cursor {
    /// What [`Self::written`] wrote; the beginning when that is nothing.
    fn read(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self::default());
        }
        let (page, slot) = text.split_once('.')?;
        Some(Self { page: page.parse::<Key>().ok()?.0, slot: slot.parse().ok()? })
    }

    fn written(self) -> String {
        format!("{}.{}", Key(self.page), self.slot)
    }
}

/// Looks at some pages from a place on, for at most `room` channels.
fn look(ledger: &Ledger, search: &Search, from: Cursor, room: usize, now: i64) -> Answer {
    let (mut found, mut looked_at) = (Vec::new(), 0usize);
    let mut pages = ledger.pages_from(from.page);
    for page in pages.by_ref().take(PAGES_AT_ONCE) {
        let first = if page == from.page { from.slot } else { 0 };
        for channel in ledger.channels_of(&page).filter(|channel| channel.place().slot >= first) {
            if found.len() == room {
                let next = Some(Cursor { page, slot: channel.place().slot });
                return Answer { found, next, looked_at };
            }
            looked_at = looked_at.saturating_add(1);
            if search.takes(&channel, now) {
                let book = ledger.book_of(&page).unwrap_or_default();
                found.push(Found { channel, book, is_reserved: channel.reserved(now).is_some() });
            }
        }
    }
    Answer { found, next: pages.next().map(|page| Cursor { page, slot: 0 }), looked_at }
}

/// Answers a question: the channel of a whole id at once, else what a bounded number of looks finds.
async fn answer<C: Chain>(app: &App<C>, search: &Search) -> Result<Answer, Problem> {
    if let Ok(id) = search.text.parse::<Key>() {
        let one = move |desk: &mut tallybook_sequencer::Desk| {
            let channel = desk.ledger.channel(&id.0)?;
            let book = desk.ledger.book_of(&channel.place().page).unwrap_or_default();
            Some(Found { channel, book, is_reserved: channel.reserved(desk.now).is_some() })
        };
        if let Some(found) = app.sequencer.ask(one).await? {
            return Ok(Answer { found: vec![found], next: None, looked_at: 1 });
        }
    }
    let mut all = Answer { found: Vec::new(), next: Some(search.from), looked_at: 0 };
    for _ in 0..LOOKS {
        let Some(from) = all.next.filter(|_| all.found.len() < ROWS) else { break };
        let room = ROWS.saturating_sub(all.found.len());
        let asked = search.clone();
        let looked = app.sequencer.ask(move |desk| look(&desk.ledger, &asked, from, room, desk.now)).await?;
        all.found.extend(looked.found);
        all.next = looked.next;
        all.looked_at = all.looked_at.saturating_add(looked.looked_at);
    }
    Ok(all)
}

/// `GET /operator/channels`.
pub(super) async fn page<C: Chain>(app: &App<C>, question: &Question) -> Result<Markup, Refused> {
    let search = Search::of(question)?;
    let answer = answer(app, &search).await?;
    let sight = app.look();
    let decimals = sight.books.iter().map(|(book, view)| (*book, view.state.decimals)).collect();
    Ok(html! {
        h1 { "Channels" }
        (form(&search))
        @if answer.found.is_empty() { p.empty role="status" { "No such channel was found." } } @else { (rows(&answer.found, &decimals)) }
        p.note {
            (number(answer.found.len())) " found of " (number(answer.looked_at)) " looked at. Of the ledger, as this page was loaded."
            @if !app.first_sight.is_over() { " Not all pages of the chain were read yet since the start." }
        }
        @if let Some(next) = answer.next { p.more { a href=(link(&search, next)) { "Look on" } } }
    })
}

fn form(search: &Search) -> Markup {
    html! {
        form.search method="get" action="/operator/channels" role="search" {
            div {
                label for="q" { "Channel or payer, or how it begins" }
                input id="q" name="q" value=(search.text) maxlength=(MAX_TEXT_BYTES) autocomplete="off" spellcheck="false" autocapitalize="off";
            }
            div {
                label for="state" { "State" }
                select id="state" name="state" {
                    @for (wanted, value, label) in STATES {
                        option value=(value) selected[wanted == search.wanted] { (label) }
                    }
                }
            }
            button.primary type="submit" { "Search" }
        }
    }
}

fn link(search: &Search, next: Cursor) -> String {
    let state = STATES.into_iter().find(|(wanted, _, _)| *wanted == search.wanted).map_or("", |(_, name, _)| name);
    let mut question = url::form_urlencoded::Serializer::new(String::new());
    question.append_pair("q", &search.text).append_pair("state", state).append_pair("after", &next.written());
    format!("/operator/channels?{}", question.finish())
}

fn rows(found: &[Found], decimals: &BTreeMap<[u8; 32], u8>) -> Markup {
    let head = [
        ("Channel", false),
        ("Payer", false),
        ("State", false),
        ("Deposit", true),
        ("Signed", true),
        ("Charged", true),
        ("Settled", true),
        ("Unclaimed", true),
        ("Page", false),
        ("Slot", true),
    ];
    let rows = html! {
        @for Found { channel, book, is_reserved } in found {
            @let decimals = decimals.get(book).copied().unwrap_or_default();
            tr {
                td { (key(&Key(*channel.id()))) }
                td { (key(&Key(channel.on_chain().payer))) }
                td { (state(channel, *is_reserved)) }
                @for amount in [channel.deposit(), channel.signed(), channel.charged(), channel.settled(), channel.gain()] {
                    td.number { (tokens(amount, decimals)) }
                }
                td { (key(&Key(channel.place().page))) }
                td.number { (channel.place().slot) }
            }
        }
    };
    table("Channels that were found", &head, rows)
}

fn state(channel: &Channel, is_reserved: bool) -> &'static str {
    match (channel.is_closing(), is_reserved, channel.is_in_flight()) {
        (true, _, true) => "closing, claim on its way",
        (true, _, false) => "closing",
        (false, true, _) => "open, call under way",
        (false, false, true) => "open, claim on its way",
        (false, false, false) => "open",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(q: &str, state: &str, after: &str) -> Question {
        Question { q: q.to_owned(), state: state.to_owned(), after: after.to_owned() }
    }

    #[test]
    fn given_questions_that_are_none_when_read_then_each_is_refused_with_what_to_ask() {
        let bad = [
            question(&"1".repeat(65), "", ""),
            question("<script>", "", ""),
            question("", "gone", ""),
            question("", "", "nowhere"),
            question("", "", "11111111111111111111111111111111.256"),
        ];
        for question in bad {
            assert!(matches!(Search::of(&question), Err(Problem::Question(_))), "{question:?}");
        }
    }

    #[test]
    fn given_a_place_to_look_on_when_its_link_is_followed_then_it_is_the_same() {
        let cursor = Cursor { page: [7; 32], slot: 95 };
        assert_eq!(Cursor::read(&cursor.written()), Some(cursor));
        let hex = "07".repeat(32);
        assert_eq!(Search::of(&question(&hex, "open", "")).unwrap().text, Key([7; 32]).to_string());
        let search = Search::of(&question("4uQ", "closing", "")).unwrap();
        let link = link(&search, cursor);
        assert!(link.starts_with("/operator/channels?q=4uQ&state=closing&after=") && link.ends_with(".95"), "{link}");
    }
}
