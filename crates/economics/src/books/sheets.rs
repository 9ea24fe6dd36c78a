//! The versions of the plant's sheet: each server takes its own when it starts.

use ledger::{Batch, Command, Document, StoreError};
use serde::Deserialize;
use serde_json::json;

use super::acts::document_id;
use super::{Books, ChangeError, DURABLE_WAIT, SHEET_KIND, STARTED};
use crate::plant::PlantSheet;

/// A sheet as its document has it.
#[derive(Deserialize)]
struct Body {
    /// Whether its figures are examples.
    example: bool,
    sheet: PlantSheet,
}

/// One version of the plant's sheet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SheetVersion {
    /// From 1.
    pub version: u64,
    /// When the server took it.
    pub at_ms: i64,
    /// The sheet, labelled where it is the example.
    pub sheet: PlantSheet,
}

impl SheetVersion {
    fn read(document: &Document) -> Result<Self, StoreError> {
        let body: Body = serde_json::from_slice(&document.body).map_err(|error| {
            StoreError::Damaged(format!("version {} of the plant sheet cannot be read: {error}", document.version))
        })?;
        let sheet = body.sheet.labelled(body.example);
        Ok(Self { version: document.version, at_ms: document.at_ms, sheet })
    }
}

impl Books {
    /// The versions of this server's plant sheet, oldest first; the last one is in force. Only what is on the disk.
    ///
    /// # Errors
    /// The store cannot be read, or a document is damaged.
    pub fn plant_sheets(&self) -> Result<Vec<SheetVersion>, StoreError> {
        let known = self.ledger.document_history(SHEET_KIND, &self.sheet_key())?;
        known.iter().map(SheetVersion::read).collect()
    }

    /// Makes `sheet` the latest version of this server's plant sheet, if it is another than before. Gives the version.
    ///
    /// # Errors
    /// The ledger does not take it.
    pub fn take_plant_sheet(&self, sheet: &PlantSheet, now_ms: i64) -> Result<u64, ChangeError> {
        let key = self.sheet_key();
        let body = sheet_body(sheet);
        let known = self.ledger.document_history(SHEET_KIND, &key)?.pop();
        let version = match known {
            Some(known) if known.body == body => return Ok(known.version),
            known => known.map_or(1, |known| known.version.saturating_add(1)),
        };
        let id = document_id(SHEET_KIND, &key, version);
        let put = Command::Put { id, kind: SHEET_KIND, key, version, actor: STARTED.to_owned(), body };
        let receipt = self.ledger.submit(&Batch { at_ms: now_ms, commands: vec![put] })?;
        receipt.wait_durable(DURABLE_WAIT)?;
        Ok(version)
    }

    fn sheet_key(&self) -> String {
        format!("server/{}", self.writer)
    }
}

/// The JSON of a sheet, which says whether its figures are examples.
fn sheet_body(sheet: &PlantSheet) -> Vec<u8> {
    json!({"example": sheet.is_example(), "sheet": sheet}).to_string().into_bytes()
}
