//! Steps from one schema version to the next.

use crate::error::OpenError;
use crate::sqlite::Sqlite;
use crate::store::{self, MIGRATIONS, Sql, migrate};

#[test]
fn each_step_is_done_once_and_a_failed_one_leaves_the_version_before() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("books.db");
    let [first] = MIGRATIONS else { panic!("extend this test with the new step") };
    let (next, broken) = ("CREATE TABLE extra (id INTEGER PRIMARY KEY)", "CREATE TABLE wrong (id INTEGER); nonsense");
    let mut sql = Sqlite::writer(&path).unwrap();
    let version = |sql: &mut Sqlite| store::meta(sql, "schema").unwrap();
    migrate(&mut sql, &[first]).unwrap();
    migrate(&mut sql, &[first, next]).unwrap();
    migrate(&mut sql, &[first, next]).unwrap();
    assert_eq!(version(&mut sql), 2);
    assert!(matches!(migrate(&mut sql, &[first, next, broken]), Err(OpenError::Store(_))));
    drop(sql);
    let mut sql = Sqlite::writer(&path).unwrap();
    assert_eq!(version(&mut sql), 2);
    assert!(sql.rows("SELECT id FROM wrong", &[]).is_err());
    assert!(matches!(migrate(&mut sql, &[first]), Err(OpenError::Newer { found: 2, known: 1 })));
}
