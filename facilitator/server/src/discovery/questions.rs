//! What the catalogue is asked over HTTP: as x402 has it, and whether a URL is listed.

use crate::app::App;
use crate::discovery::Discovery;
use crate::problem::Problem;
use serde::Deserialize;
use std::sync::Arc;
use tallybook_catalogue::Filter;
use tallybook_sequencer::clock;
use tallybook_settler::Chain;
use tallybook_wire::{Cursor, ListingPage, ListingStatus, MAX_LISTINGS, Offset, SearchPage, Version};

/// Listings of a page, unless asked for otherwise.
const USUAL_LISTINGS: u32 = 20;
/// The longest text of a question, in bytes.
const MAX_TEXT_BYTES: usize = 256;
const MAX_URL_BYTES: usize = 2_048;

/// The parameters of all questions. Those that are not known are not read.
#[derive(Deserialize, Default, Debug)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Question {
    query: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    pay_to: Option<String>,
    scheme: Option<String>,
    network: Option<String>,
    asset: Option<String>,
    max_amount: Option<String>,
    extensions: Option<String>,
    limit: Option<String>,
    offset: Option<String>,
    cursor: Option<String>,
    resource: Option<String>,
}

impl Question {
    fn filter(&self) -> Result<Filter, Problem> {
        let texts = [
            &self.query,
            &self.kind,
            &self.pay_to,
            &self.scheme,
            &self.network,
            &self.asset,
            &self.extensions,
            &self.cursor,
        ];
        if texts.into_iter().flatten().any(|text| text.len() > MAX_TEXT_BYTES) {
            return Err(Problem::Question("A parameter is longer than 256 bytes: ask for less."));
        }
        let max_amount = self.max_amount.as_ref().map(|text| text.parse::<u64>()).transpose();
        Ok(Filter {
            kind: self.kind.clone(),
            pay_to: self.pay_to.clone(),
            scheme: self.scheme.clone(),
            network: self.network.clone(),
            asset: self.asset.clone(),
            max_amount: max_amount.map_err(|_| Problem::Question("maxAmount is a whole number of base units."))?,
            extension: self.extensions.clone(),
        })
    }

    /// How many are asked for; as many as may be where that is more.
    fn limit(&self) -> Result<u32, Problem> {
        let asked = number(self.limit.as_deref(), USUAL_LISTINGS, "limit is a whole number, from 1 to 100.")?;
        Ok(asked.clamp(1, MAX_LISTINGS))
    }
}

fn number(text: Option<&str>, usual: u32, problem: &'static str) -> Result<u32, Problem> {
    text.map_or(Ok(usual), |text| text.parse().map_err(|_| Problem::Question(problem)))
}

fn size(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn discovery<C>(app: &App<C>) -> Result<&Discovery, Problem> {
    app.discovery.as_ref().ok_or(Problem::NoCatalogue)
}

/// `GET /discovery/resources`.
pub(crate) fn list<C: Chain>(app: &App<C>, question: &Question) -> Result<ListingPage, Problem> {
    let discovery = discovery(app)?;
    let (filter, limit) = (question.filter()?, question.limit()?);
    let offset = number(question.offset.as_deref(), 0, "offset is a whole number, from 0.")?;
    let (items, total) = discovery.read().page(&filter, size(offset), size(limit), clock());
    let pagination = Offset { limit, offset, total: count(total) };
    Ok(ListingPage { x402_version: Version, items, pagination })
}

/// `GET /discovery/search`.
pub(crate) async fn search<C: Chain>(app: &Arc<App<C>>, question: Question) -> Result<SearchPage, Problem> {
    let (filter, limit) = (question.filter()?, question.limit()?);
    let query = question.query.filter(|query| !query.trim().is_empty());
    let query = query.ok_or(Problem::Question("query says what to look for: GET /discovery/search?query=weather."))?;
    let offset = number(question.cursor.as_deref(), 0, "cursor is that of the page before.")?;
    let _search = discovery(app)?.searches.try_acquire().map_err(|_| SEARCHES_FULL)?;
    let searched = Arc::clone(app);
    // It reads the whole catalogue.
    let found = tokio::task::spawn_blocking(move || {
        let discovery = searched.discovery.as_ref()?;
        Some(discovery.read().search(&query, &filter, (size(offset), size(limit)), clock()))
    });
    let (resources, total) = found.await.ok().flatten().unwrap_or_default();
    let shown = count(resources.len());
    let next = offset.saturating_add(shown);
    let more = shown > 0 && size(next) < total;
    Ok(SearchPage {
        x402_version: Version,
        resources,
        partial_results: Some(more),
        pagination: Some(Cursor { limit: shown, cursor: more.then(|| next.to_string()) }),
    })
}

const SEARCHES_FULL: Problem =
    Problem::Full("As many searches run as may: retry, or list with GET /discovery/resources.");

/// `GET /discovery/status`.
pub(crate) fn status<C: Chain>(app: &App<C>, question: &Question) -> Result<ListingStatus, Problem> {
    const ASK: Problem = Problem::Question("resource is the http(s) URL that is looked for.");
    let url = question.resource.as_ref().filter(|url| url.len() <= MAX_URL_BYTES).ok_or(ASK)?;
    discovery(app)?.read().status(url).map_err(|_| ASK)
}
