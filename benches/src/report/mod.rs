//! The report: what the benches have written, as one Markdown page with plots.

mod machine;
mod page;
mod plot;
mod request;
mod settlement;

use crate::planner::Planner;
use crate::request::Report as Request;
use crate::settlement::Settlement;
use serde::de::DeserializeOwned;
use std::path::Path;

/// What the benches have measured.
#[derive(Debug)]
pub struct Measured {
    /// Settling, closing and whole lives on a chain.
    pub settlement: Settlement,
    /// A paid call beside an unpaid one.
    pub request: Request,
    /// Planning among many channels.
    pub planner: Planner,
}

impl Measured {
    /// Reads `settlement.json`, `request.json` and `planner.json` in a folder, or says which is missing.
    pub fn read(folder: &Path) -> Result<Self, String> {
        Ok(Self {
            settlement: read(folder, "settlement")?,
            request: read(folder, "request")?,
            planner: read(folder, "planner")?,
        })
    }

    /// Writes `README.md` and the plots into a folder.
    pub fn write(&self, folder: &Path) {
        settlement::plots(&self.settlement, folder);
        request::plots(&self.request, folder);
        std::fs::write(folder.join("README.md"), page::page(self)).unwrap();
    }
}

fn read<T: DeserializeOwned>(folder: &Path, bench: &str) -> Result<T, String> {
    let path = folder.join(format!("{bench}.json"));
    let text = std::fs::read(&path).map_err(|error| format!("{}: {error}; run the {bench} bench", path.display()))?;
    serde_json::from_slice(&text).map_err(|error| format!("{}: {error}; run the {bench} bench again", path.display()))
}
