//! A group of decided batches, written in one transaction.

use std::collections::HashMap;
use std::sync::Arc;

use crate::book::{Account, Decision};
use crate::error::StoreError;
use crate::pack;
use crate::store::{
    self, ACCOUNT, DOCUMENT, ENTRY, HOLD, Head, META, Sql, TALLY, Value, WRITER, account_seal, id_value, whole,
};
use crate::tally::{Summary, Sums};
use crate::types::{AccountId, Entry, EntryId, Hold};

/// What one transaction changes: later states replace earlier ones, a hold that came and went leaves no trace.
#[derive(Default)]
pub(crate) struct Group {
    entries: Vec<(Arc<Entry>, Vec<u8>, pack::Hash)>,
    accounts: HashMap<AccountId, Account>,
    holds: HashMap<EntryId, (bool, Option<Arc<Hold>>)>,
    sums: Sums,
    account_count: Option<u64>,
}

impl Group {
    /// Takes the next decision; `head` is its writer's and moves on.
    pub(crate) fn add(&mut self, decision: Decision, head: &mut Head, summary: Option<&dyn Summary>) {
        for (id, account) in decision.accounts {
            self.account_count = self.account_count.max(id.0.checked_add(1));
            self.accounts.insert(id, account);
        }
        for change in decision.holds {
            self.holds.entry(change.id).or_insert((change.fresh, None)).1 = change.now;
        }
        for entry in decision.entries {
            if let Some(summary) = summary {
                self.sums.take(summary, &entry);
            }
            let packed = pack::entry(&entry);
            head.hash = pack::link(&head.hash, entry.seq, entry.id, &packed);
            head.seq = entry.seq;
            self.entries.push((entry, packed, head.hash));
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.accounts.is_empty() && self.holds.is_empty()
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.entries.iter().map(|(entry, _, _)| entry)
    }

    /// Writes everything; the caller begins and commits.
    pub(crate) fn write(&self, sql: &mut dyn Sql, writer: u32, head: &Head) -> Result<(), StoreError> {
        self.write_entries(sql)?;
        let mut accounts = Vec::with_capacity(self.accounts.len().saturating_mul(ACCOUNT.columns.len()));
        for (&id, account) in &self.accounts {
            accounts.extend(account_row(id, account));
        }
        sql.put(&ACCOUNT, &accounts)?;
        let (mut open, mut ended, mut opened) = (Vec::new(), Vec::new(), 0_u64);
        for (&id, (fresh, hold)) in &self.holds {
            match hold {
                Some(hold) => {
                    open.extend([id_value(id), Value::Bytes(pack::hold(hold).into())]);
                    opened = opened.saturating_add((*fresh).into());
                }
                None if *fresh => {}
                None => ended.push(id_value(id)),
            }
        }
        sql.put(&HOLD, &open)?;
        sql.delete(&HOLD, &ended)?;
        add_sums(sql, &self.sums)?;
        self.write_counts(sql, (opened, u64::try_from(ended.len()).unwrap_or(u64::MAX)))?;
        let hash = Value::Bytes(head.hash.as_slice().into());
        sql.put(&WRITER, &[Value::Int(writer.into()), whole(head.seq), whole(head.turn), hash])
    }

    /// Numbers of entries, of accounts, and of holds, of which so many came and so many went.
    fn write_counts(&self, sql: &mut dyn Sql, (opened, ended): (u64, u64)) -> Result<(), StoreError> {
        let mut rows = Vec::new();
        if let Some((last, _, _)) = self.entries.last() {
            rows.extend([Value::Text("seq".into()), whole(last.seq)]);
        }
        if let Some(count) = self.account_count {
            let stored = store::meta(sql, "accounts")?;
            rows.extend([Value::Text("accounts".into()), whole(count.max(stored))]);
        }
        if opened != ended {
            let stored = store::meta(sql, "holds")?;
            rows.extend([Value::Text("holds".into()), whole(stored.saturating_add(opened).saturating_sub(ended))]);
        }
        sql.put(&META, &rows)
    }

    fn write_entries(&self, sql: &mut dyn Sql) -> Result<(), StoreError> {
        let mut rows = Vec::with_capacity(self.entries.len().saturating_mul(ENTRY.columns.len()));
        let mut documents = Vec::new();
        for (entry, packed, hash) in &self.entries {
            let id = entry.id.as_ref().map_or(Value::Null, |id| Value::Bytes(id.0.as_slice().into()));
            rows.extend([whole(entry.seq), id, Value::Bytes(packed.into()), Value::Bytes(hash.as_slice().into())]);
            if let Some(document) = pack::unpack_document(entry) {
                let key = Value::Text(document.key.into());
                documents.extend([Value::Int(document.kind.into()), key, whole(document.version), whole(entry.seq)]);
            }
        }
        sql.put(&ENTRY, &rows)?;
        sql.put(&DOCUMENT, &documents)
    }
}

fn account_row(id: AccountId, account: &Account) -> [Value<'_>; 9] {
    let optional = |floor: Option<i64>| floor.map_or(Value::Null, Value::Int);
    let (spec, balance) = (&account.spec, &account.balance);
    [
        whole(id.0),
        Value::Text(spec.name.as_str().into()),
        Value::Int(spec.kind.code().into()),
        Value::Int(spec.unit.0.into()),
        optional(spec.floor),
        optional(balance.floor),
        Value::Int(balance.posted),
        Value::Int(balance.held),
        Value::Int(account_seal(id, account)),
    ]
}

/// Adds sums to those that are stored.
pub(crate) fn add_sums(sql: &mut dyn Sql, sums: &Sums) -> Result<(), StoreError> {
    let keys: Vec<_> = sums.iter().map(|(key, _)| Value::Bytes(key.into())).collect();
    let mut stored = HashMap::new();
    for row in sql.find(&TALLY, 0, &keys)? {
        stored.insert(store::bytes(&row, 0)?.to_vec(), store::bytes(&row, 1)?.to_vec());
    }
    let mut rows = Vec::with_capacity(keys.len().saturating_mul(2));
    for (key, more) in sums.iter() {
        let packed = stored.remove(key).unwrap_or_default();
        let packed = pack::add_parts(&packed, more).ok_or_else(store::no_tally)?;
        rows.extend([Value::Bytes(key.into()), Value::Bytes(packed.into())]);
    }
    sql.put(&TALLY, &rows)
}
