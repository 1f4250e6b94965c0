//! What `tallybook reconcile` prints.

use super::findings::{Finding, Findings, Kind};
use crate::history::BookHistory;
use crate::output::{Money, line};
use crate::wallet::symbol;
use anyhow::{Result, ensure};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use tallybook_rules::Amount;

/// How store and chain differ.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReconcileReport {
    /// The chain's slot up to which everything was compared.
    pub chain_slot: u64,
    /// Books whose pages were compared.
    pub books: Vec<String>,
    /// Channels that were compared, those that are over too.
    pub channels: usize,
    /// What calls cost according to the store, in base units; none where the books are of several tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub charged: Option<String>,
    /// What was settled according to the chain, in the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settled: Option<String>,
    /// How many differences there are of each kind, and of how much.
    pub kinds: BTreeMap<Kind, Count>,
    /// The same for each token, by mint.
    pub tokens: Vec<TokenReport>,
    /// How many differences have no explanation.
    pub unexplained: usize,
    /// The differences without an explanation, or all.
    pub differences: Vec<Finding>,
}

/// Differences of one kind.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Count {
    /// How many.
    pub differences: usize,
    /// In the store, in base units, all of them together; none where the books are of several tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_store: Option<String>,
    /// On chain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_chain: Option<String>,
}

/// How store and chain differ in the books of one token.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenReport {
    /// The token.
    pub mint: String,
    /// What people call it, where that is known here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub symbol: Option<&'static str>,
    /// Its books.
    pub books: Vec<String>,
    /// Channels of theirs that were compared.
    pub channels: usize,
    /// What calls cost according to the store.
    pub charged: Money,
    /// What was settled according to the chain.
    pub settled: Money,
    /// How many differences there are of each kind, and of how much.
    pub kinds: BTreeMap<Kind, Sum>,
    /// How many of them have no explanation.
    pub unexplained: usize,
}

/// Differences of one kind, in one token.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sum {
    /// How many.
    pub differences: usize,
    /// In the store, all of them together.
    pub in_store: Money,
    /// On chain.
    pub on_chain: Money,
}

impl ReconcileReport {
    /// Of the findings in each token.
    pub(super) fn of(findings: &[Findings<'_>], all: bool) -> Result<Self> {
        let tokens: Vec<TokenReport> = findings.iter().map(TokenReport::of).collect::<Result<_>>()?;
        let mut kinds: BTreeMap<Kind, Count> = BTreeMap::new();
        for (kind, sum) in tokens.iter().flat_map(|token| &token.kinds) {
            let count = kinds.entry(*kind).or_default();
            count.differences = count.differences.saturating_add(sum.differences);
            // What two tokens add up to means nothing.
            if tokens.len() == 1 {
                count.in_store = Some(sum.in_store.amount.to_string());
                count.on_chain = Some(sum.on_chain.amount.to_string());
            }
        }
        let only = |sum: fn(&TokenReport) -> Money| match tokens.as_slice() {
            [] => Some(Amount::ZERO.to_string()),
            [token] => Some(sum(token).amount.to_string()),
            _ => None,
        };
        let histories = || findings.iter().flat_map(|findings| &findings.token.histories);
        let every = || findings.iter().flat_map(Findings::every);
        Ok(Self {
            chain_slot: histories().map(|history| history.chain_slot).min().unwrap_or_default(),
            books: histories().map(address_of).collect(),
            channels: findings.iter().map(|findings| findings.compared).fold(0, usize::saturating_add),
            charged: only(|token| token.charged),
            settled: only(|token| token.settled),
            kinds,
            unexplained: every().filter(|finding| !finding.kind.is_explained()).count(),
            differences: every().filter(|finding| all || !finding.kind.is_explained()).cloned().collect(),
            tokens,
        })
    }
}

fn address_of(history: &BookHistory) -> String {
    history.book.address.to_string()
}

impl TokenReport {
    fn of(findings: &Findings<'_>) -> Result<Self> {
        let token = findings.token;
        ensure!(
            findings.add_up()?,
            "the differences that were found in {} do not add up to the difference of its sums: report this",
            token.mint
        );
        let money = |amount| Money::new(amount, token.decimals);
        let nothing = Sum { differences: 0, in_store: money(Amount::ZERO), on_chain: money(Amount::ZERO) };
        let mut kinds: BTreeMap<Kind, Sum> = BTreeMap::new();
        for finding in findings.every() {
            let sum = kinds.entry(finding.kind).or_insert(nothing);
            sum.differences = sum.differences.saturating_add(1);
            sum.in_store.amount = sum.in_store.amount.plus(finding.in_store)?;
            sum.on_chain.amount = sum.on_chain.amount.plus(finding.on_chain)?;
        }
        Ok(Self {
            mint: token.mint.to_string(),
            symbol: symbol(&token.mint),
            books: token.histories.iter().map(address_of).collect(),
            channels: findings.compared,
            charged: money(findings.charged),
            settled: money(findings.settled),
            kinds,
            unexplained: findings.every().filter(|finding| !finding.kind.is_explained()).count(),
        })
    }

    /// Writes its sums, and those of the differences that are its own.
    fn write(&self, f: &mut fmt::Formatter<'_>, differences: &[Finding]) -> fmt::Result {
        match self.symbol {
            Some(symbol) => line(f, "token", format_args!("{}, {symbol}", self.mint))?,
            None => line(f, "token", &self.mint)?,
        }
        for book in &self.books {
            line(f, "book", book)?;
        }
        let money = |amount| Money::new(amount, self.charged.decimals);
        let sum = |money: Money| format!("{money} ({} base units)", money.amount);
        line(f, "charged", format_args!("{}, says the store", sum(self.charged)))?;
        line(f, "settled", format_args!("{}, says the chain", sum(self.settled)))?;
        for (kind, Sum { differences, in_store, on_chain }) in &self.kinds {
            line(f, "difference", format_args!("{differences} × {}: {in_store} ↔ {on_chain}", kind.words()))?;
        }
        for finding in differences.iter().filter(|finding| finding.mint == self.mint) {
            let what = finding.channel.as_deref().or(finding.transaction.as_deref()).unwrap_or(&finding.page);
            let batch = finding.batch.map(|batch| format!(" of batch {batch}")).unwrap_or_default();
            let (in_store, on_chain) = (money(finding.in_store), money(finding.on_chain));
            writeln!(f, "  {what}{batch}: {in_store} ↔ {on_chain}, {}", finding.kind.words())?;
        }
        Ok(())
    }
}

impl fmt::Display for ReconcileReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        line(f, "compared", format_args!("{} channels, up to slot {} of the chain", self.channels, self.chain_slot))?;
        for token in &self.tokens {
            writeln!(f)?;
            token.write(f, &self.differences)?;
        }
        writeln!(f)?;
        match self.unexplained {
            0 => line(f, "result", "every difference is explained"),
            1 => line(f, "result", "1 difference has no explanation"),
            unexplained => line(f, "result", format_args!("{unexplained} differences have no explanation")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::findings::tests::{history, id, record};
    use super::super::token::Token;
    use super::*;
    use crate::history::town::{PAGE, Town};
    use solana_address::Address;
    use std::collections::BTreeSet;
    use tallybook_ledger::Change;
    use tallybook_store::{MemoryStore, VoucherStore};

    const OTHER_PAGE: [u8; 32] = [19; 32];

    /// A book of the town's token, and one of another with nine places; in each a channel of which 100 are settled.
    fn two_books() -> [BookHistory; 2] {
        let of_slot = |slot| {
            let mut town = Town::default();
            town.open(slot, 1, 1_000);
            town.claim(&[(slot, 100)], 100);
            history(&town)
        };
        let (one, mut other) = (of_slot(0), of_slot(1));
        other.book.address = Address::from([18; 32]);
        (other.book.state.mint, other.book.state.decimals) = ([3; 32], 9);
        other.pages[0].address = Address::from(OTHER_PAGE);
        [one, other]
    }

    fn compared(changes: &[Change], histories: &[BookHistory]) -> ReconcileReport {
        let mut store = MemoryStore::default();
        store.commit(changes).unwrap();
        let of_pages: BTreeMap<Address, Address> =
            histories.iter().map(|history| (history.pages[0].address, history.book.address)).collect();
        let channels = store.load().unwrap().channels;
        let tokens = Token::each(channels, Vec::new(), &of_pages, histories.to_vec()).unwrap();
        let ours: BTreeSet<_> = histories.iter().flat_map(|history| history.costs.keys().copied()).collect();
        let findings: Vec<_> = tokens.iter().map(|token| Findings::of(&mut store, token, &ours).unwrap()).collect();
        ReconcileReport::of(&findings, true).unwrap()
    }

    /// Charged of the channel in the first book, and in the second.
    fn changes(histories: &[BookHistory; 2], charged: [u64; 2]) -> [Change; 2] {
        let [one, other] = histories;
        let mut of_other = record(id(other, 1), 1, charged[1], charged[1]);
        if let Change::Channel(record) = &mut of_other {
            record.place.page = OTHER_PAGE;
        }
        [record(id(one, 0), 0, charged[0], charged[0]), of_other]
    }

    #[test]
    fn given_two_tokens_whose_differences_would_cancel_when_compared_then_each_has_its_own_sums_and_nothing_is_of_both()
    {
        // Given that the store is ahead in one token and behind in the other, by as many base units
        let histories = two_books();
        let report = compared(&changes(&histories, [150, 50]), &histories);
        let [one, other] = report.tokens.as_slice() else { panic!("{report}") };
        let said = |token: &TokenReport| (token.charged.to_string(), token.settled.to_string(), token.unexplained);
        assert_eq!(said(one), ("0.000150".to_owned(), "0.000100".to_owned(), 0));
        assert_eq!(said(other), ("0.000000050".to_owned(), "0.000000100".to_owned(), 1));
        // Then what one token leaves unexplained counts, and there is no sum of both
        assert_eq!((report.unexplained, report.channels, report.books.len()), (1, 2, 2));
        assert_eq!((&report.charged, &report.settled), (&None, &None));
        let nothing = Count { differences: 1, in_store: None, on_chain: None };
        assert_eq!(report.kinds, [(Kind::Waiting, nothing.clone()), (Kind::StoreIsBehind, nothing)].into());
        let (json, text) = (serde_json::to_string(&report).unwrap(), report.to_string());
        assert!(!json.contains("\"200\"") && !text.contains("200"), "{json}\n{text}");
        // And each difference stands below its token, in its decimals
        let (first, second) = text.split_once(&other.mint).unwrap();
        assert!(first.contains(": 0.000150 ↔ 0.000100, charged, and waits") && first.contains(&one.mint), "{text}");
        assert!(second.contains(": 0.000000050 ↔ 0.000000100, settled beyond"), "{text}");
    }

    #[test]
    fn given_the_same_difference_in_two_tokens_when_counted_then_its_sums_stand_with_the_tokens_alone() {
        let histories = two_books();
        let report = compared(&changes(&histories, [150, 170]), &histories);
        assert_eq!(report.kinds[&Kind::Waiting], Count { differences: 2, in_store: None, on_chain: None });
        let sums = report.tokens.iter().map(|token| token.kinds[&Kind::Waiting].in_store.amount.get());
        assert_eq!(sums.collect::<Vec<_>>(), [150, 170]);
        assert_eq!(report.unexplained, 0);
    }

    #[test]
    fn given_one_token_or_none_when_compared_then_the_sums_stand_where_they_always_did() {
        let [history, _] = two_books();
        let report = compared(&[record(id(&history, 0), 0, 150, 150)], &[history]);
        assert_eq!((report.charged.as_deref(), report.settled.as_deref()), (Some("150"), Some("100")));
        let count = Count { differences: 1, in_store: Some("150".to_owned()), on_chain: Some("100".to_owned()) };
        assert_eq!(report.kinds, [(Kind::Waiting, count)].into());
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["tokens"][0]["kinds"]["waiting"]["inStore"]["tokens"], "0.000150");
        let report = compared(&[], &[]);
        assert_eq!((report.charged.as_deref(), report.tokens.len()), (Some("0"), 0));
    }

    #[test]
    fn given_a_row_of_a_page_whose_book_was_not_read_when_parted_then_it_is_not_left_out_in_silence() {
        let [history, _] = two_books();
        let mut store = MemoryStore::default();
        store.commit(&[record(id(&history, 0), 0, 150, 150)]).unwrap();
        let channels = store.load().unwrap().channels;
        let refused = Token::each(channels, Vec::new(), &BTreeMap::new(), vec![history]).unwrap_err();
        assert!(refused.to_string().contains(&Address::from(PAGE).to_string()), "{refused}");
    }
}
