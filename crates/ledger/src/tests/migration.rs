//! Steps from one schema version to the next.

use crate::error::StoreError;
use crate::sqlite::Sqlite;
use crate::store::{self, MIGRATIONS, Sql, migrate};
use crate::{Batch, Command, EntryId, Ledger, Options, StoreSpec, verify};

#[test]
fn each_step_is_done_once_and_a_failed_one_leaves_the_version_before() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("books.db");
    let first = MIGRATIONS[0];
    let (next, broken) = ("CREATE TABLE extra (id INTEGER PRIMARY KEY)", "CREATE TABLE wrong (id INTEGER); nonsense");
    let mut sql = Sqlite::writer(&path).unwrap();
    let version = |sql: &mut Sqlite| store::meta(sql, "schema").unwrap();
    migrate(&mut sql, &[first]).unwrap();
    migrate(&mut sql, &[first, next]).unwrap();
    migrate(&mut sql, &[first, next]).unwrap();
    assert_eq!(version(&mut sql), 2);
    assert!(matches!(migrate(&mut sql, &[first, next, broken]), Err(StoreError::Failed(_))));
    drop(sql);
    let mut sql = Sqlite::writer(&path).unwrap();
    assert_eq!(version(&mut sql), 2);
    assert!(sql.rows("SELECT id FROM wrong", &[]).is_err());
    assert!(matches!(migrate(&mut sql, &[first]), Err(StoreError::Newer { found: 2, known: 1 })));
}

#[test]
fn a_ledger_of_the_first_version_is_brought_up_and_found_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("books.db");
    migrate(&mut Sqlite::writer(&path).unwrap(), &MIGRATIONS[..1]).unwrap();
    let spec = StoreSpec::Sqlite(path);
    verify(&spec, None).unwrap();
    let ledger = Ledger::open(&spec, &Options::default()).unwrap();
    let put = |number, version| Command::Put {
        id: EntryId([number; 16]),
        kind: 1,
        key: "k".to_owned(),
        version,
        actor: "a".to_owned(),
        body: Vec::new(),
    };
    ledger.submit(&Batch { at_ms: 0, commands: vec![put(1, 1), put(2, 2)] }).unwrap();
    ledger.flush(std::time::Duration::from_secs(60)).unwrap();
    assert_eq!(ledger.documents_after(1, 9).unwrap().len(), 1);
    assert_eq!(ledger.last_seq(), Ok(2));
    ledger.verify().unwrap();
}
