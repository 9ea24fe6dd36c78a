//! The audit: who changed what, when, read from the ledger's entries. Roll-ups say which entries are acts, so that a page
//! costs as much however many charges lie between its acts.

use ledger::{Batch, Command, Document, Entry, EntryId, Refusal, Refused, StoreError};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::detail::{CreditNote, Payment};
use super::{Books, ChangeError, DURABLE_WAIT, MODEL_KIND, SECRET_KIND, SHEET_KIND, id_of, secret_id};
use crate::Nano;
use crate::directory::record::{Kind, Record};
use crate::rollup::{ActSubject, acts_of};

/// How often a command on a model is written anew while others command the same one.
const TRIES: u32 = 8;

/// One act of administration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Act {
    /// The ledger's entry.
    pub seq: u64,
    /// When.
    pub at_ms: i64,
    /// Who: the id of a key, or what did it by itself.
    pub actor: String,
    /// On what: the kind's word and the key; `payment` and `credit note` with what they are for; `secret of the keys`; `model`
    /// with its name for commands on it.
    pub record: String,
    /// The JSON before, without secrets; `None`: it was new.
    #[schema(required = true)]
    pub before: Option<Value>,
    /// The JSON after, without secrets.
    pub after: Value,
}

/// Which acts are asked for.
#[derive(Clone, Copy, Debug)]
pub struct ActsAfter<'a> {
    /// Only those of this organisation.
    pub organisation: Option<&'a str>,
    /// Those that follow this entry in the order asked for; `None`: from the beginning.
    pub after: Option<u64>,
    /// The latest first.
    pub newest_first: bool,
    /// At most so many.
    pub limit: u32,
}

/// The ledger's id of one version of a document.
pub(super) fn document_id(kind: u16, key: &str, version: u64) -> EntryId {
    id_of(&["document", &kind.to_string(), key, &version.to_string()])
}

impl Books {
    /// A page of the audit: changes of the directory and of the keys' secret, payments, credit notes. Only what is on the disk.
    ///
    /// # Errors
    /// The store cannot be read or a document is damaged.
    pub fn acts(&self, asked: ActsAfter<'_>) -> Result<Vec<Act>, StoreError> {
        let mut numbers = Vec::new();
        for subject in self.subjects(asked.organisation) {
            numbers.extend(acts_of(&self.ledger, &subject, (asked.after, asked.newest_first), asked.limit)?);
        }
        numbers.sort_unstable();
        numbers.dedup();
        if asked.newest_first {
            numbers.reverse();
        }
        numbers.truncate(usize::try_from(asked.limit).unwrap_or(usize::MAX));
        numbers.into_iter().map(|seq| self.act(seq)).collect()
    }

    /// Writes into the audit that `actor` gave a command on a model, before it is carried out.
    ///
    /// # Errors
    /// The ledger does not take it: then nothing should be done.
    pub fn note_model(&self, model: &str, command: &Value, actor: &str, now_ms: i64) -> Result<(), ChangeError> {
        let mut tries = 0;
        loop {
            tries += 1;
            let known = self.ledger.document_history(MODEL_KIND, model)?.pop();
            let version = known.map_or(1, |known| known.version.saturating_add(1));
            let put = Command::Put {
                id: document_id(MODEL_KIND, model, version),
                kind: MODEL_KIND,
                key: model.to_owned(),
                version,
                actor: actor.to_owned(),
                body: command.to_string().into_bytes(),
            };
            match self.ledger.submit(&Batch { at_ms: now_ms, commands: vec![put] }) {
                Ok(receipt) => return Ok(receipt.wait_durable(DURABLE_WAIT)?),
                // Another one came first, and may not be on the disk yet, where it is read.
                Err(Refused { refusal: Refusal::BadVersion { .. } | Refusal::Conflict(_), .. }) if tries < TRIES => {
                    self.ledger.flush(DURABLE_WAIT)?;
                }
                Err(refused) => return Err(refused.into()),
            }
        }
    }

    /// Under which names an organisation's acts are counted: its own, and those of the keys of its projects.
    fn subjects(&self, organisation: Option<&str>) -> Vec<ActSubject> {
        let Some(organisation) = organisation else { return vec![ActSubject::All] };
        let directory = self.directory();
        let projects = directory.projects(organisation).map(|project| ActSubject::Project(project.id.clone()));
        std::iter::once(ActSubject::Organisation(organisation.to_owned())).chain(projects).collect()
    }

    fn act(&self, seq: u64) -> Result<Act, StoreError> {
        let entry = self.ledger.entries(seq, 1)?.pop().filter(|entry| entry.seq == seq);
        let read = entry.as_ref().map(|entry| self.read_act(entry)).transpose()?.flatten();
        read.ok_or_else(|| StoreError::Damaged(format!("entry {seq} should be an act of administration")))
    }

    fn read_act(&self, entry: &Entry) -> Result<Option<Act>, StoreError> {
        let (seq, at_ms) = (entry.seq, entry.at_ms);
        let amount = Nano(entry.legs.first().map_or(0, |leg| leg.amount));
        if let Some(Payment { organisation, reference, actor }) = Payment::read(entry) {
            let record = format!("payment {organisation}/{reference}");
            let after = json!({"organisation": organisation, "amount": amount, "reference": reference});
            return Ok(Some(Act { seq, at_ms, actor, record, before: None, after }));
        }
        if let Some(CreditNote { context, request, amount, reason, actor, .. }) = CreditNote::read(entry) {
            let request = EntryId(request).to_string();
            let record = format!("credit note {}/{request}", context.organisation);
            let after =
                json!({"organisation": context.organisation, "request": request, "amount": amount, "reason": reason});
            return Ok(Some(Act { seq, at_ms, actor, record, before: None, after }));
        }
        let Some(document) = entry.document() else { return Ok(None) };
        if document.kind == SECRET_KIND {
            return self.read_reset(document, at_ms).map(Some);
        }
        if matches!(document.kind, MODEL_KIND | SHEET_KIND) {
            let after = serde_json::from_slice(&document.body).unwrap_or_default();
            let what = if document.kind == MODEL_KIND { "model" } else { "plant sheet" };
            let record = format!("{what} {}", document.key);
            return Ok(Some(Act { seq, at_ms, actor: document.actor, record, before: None, after }));
        }
        let Some(kind) = Kind::from_code(document.kind) else { return Ok(None) };
        let before = match document.version.checked_sub(1).filter(|version| *version > 0) {
            Some(version) => self.ledger.entry_by_id(document_id(document.kind, &document.key, version))?,
            None => None,
        };
        let before = before.and_then(|entry| entry.document());
        let before = before.and_then(|document| Record::shown(kind, &document.body));
        let Some(after) = Record::shown(kind, &document.body) else { return Ok(None) };
        let record = format!("{} {}", kind.word(), document.key);
        Ok(Some(Act { seq, at_ms, actor: document.actor, record, before, after }))
    }

    /// Another secret of the keys. Its mark tells it from others and nothing else of it.
    fn read_reset(&self, document: Document, at_ms: i64) -> Result<Act, StoreError> {
        let mark = |document: &Document| json!({"mark": String::from_utf8_lossy(&document.body)});
        let before = self.ledger.entry_by_id(secret_id(document.version.saturating_sub(1)))?;
        let before = before.and_then(|entry| entry.document()).as_ref().map(mark);
        let (after, record) = (mark(&document), "secret of the keys".to_owned());
        Ok(Act { seq: document.seq, at_ms, actor: document.actor, record, before, after })
    }
}
