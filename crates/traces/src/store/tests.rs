//! What the file keeps, finds and forgets.

use std::sync::{Arc, Mutex};

use inference::{Timeline, TokenTime};
use metering::Outcome;

use super::*;

const NOW: i64 = 1_800_000_000_000;

fn trace(i: u64) -> Trace {
    let timeline = Timeline { tokens: vec![TokenTime { at_ns: i, candidate: 0 }], ..Timeline::default() };
    let record = UsageRecord {
        request_id: format!("cmpl-{i}"),
        model: if i.is_multiple_of(2) { "even" } else { "odd" }.to_owned(),
        key: Some("Über-Key".to_owned()),
        e2e_ns: i * 1_000_000,
        ..UsageRecord::default()
    };
    let owner = Owner { organisation: "acme".into(), project: format!("p{}", i % 3), key: "k1".into() };
    let received_ms = NOW + i64::try_from(i).unwrap();
    Trace { received_ms, owner, candidates: 1, record, error: None, timeline, content: None }
}

/// Its texts name it.
fn with_content(i: u64) -> Trace {
    let content = move || Content::bounded(format!("prompt {i}"), vec![format!("answer {i}")]);
    Trace { content: Some(Box::new(content)), ..trace(i) }
}

struct Rig {
    folder: tempfile::TempDir,
    writer: Writer,
    reader: Reader,
    days: Arc<Mutex<Option<u32>>>,
}

fn rig(keep: u64) -> Rig {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("traces.sqlite");
    let days = Arc::new(Mutex::new(Some(2)));
    let own = Arc::clone(&days);
    // Of all projects but p2, which keeps none.
    let content_days: ContentDays = Arc::new(move |project| own.lock().unwrap().filter(|_| project != "p2"));
    let writer = Writer::open(&path, Settings { keep, keep_days: 7 }, content_days).unwrap();
    let reader = Reader::open(&path).unwrap();
    Rig { folder, writer, reader, days }
}

fn ids(listed: &Listed) -> Vec<&str> {
    listed.requests.iter().map(|kept| kept.record.request_id.as_str()).collect()
}

fn page(limit: usize) -> Page {
    Page { limit, ..Page::default() }
}

#[test]
fn the_newest_are_kept_and_come_back_whole() {
    let mut rig = rig(10);
    for part in [0..7, 7..30] {
        rig.writer.keep(part.map(trace).collect(), NOW).unwrap();
    }
    let all = rig.reader.list(&Filter::default(), &page(100)).unwrap();
    assert_eq!((all.requests.len(), all.has_more, all.newest), (10, false, 30));
    assert_eq!(ids(&all)[..2], ["cmpl-29", "cmpl-28"]);
    assert_eq!(rig.reader.find("cmpl-19").unwrap(), None);
    let whole = rig.reader.find("cmpl-29").unwrap().unwrap();
    let expected = trace(29);
    assert_eq!((&whole.kept.record, &whole.kept.owner), (&expected.record, &expected.owner));
    assert_eq!((whole.timeline, whole.content, whole.kept.has_content), (expected.timeline, None, false));
}

#[test]
fn pages_follow_each_other_and_news_come_alone() {
    let mut rig = rig(100);
    rig.writer.keep((0..10).map(trace).collect(), NOW).unwrap();
    let first = rig.reader.list(&Filter::default(), &page(4)).unwrap();
    assert_eq!((ids(&first), first.has_more), (vec!["cmpl-9", "cmpl-8", "cmpl-7", "cmpl-6"], true));
    let before = first.requests.last().map(|kept| kept.number);
    let rest = rig.reader.list(&Filter::default(), &Page { before, ..page(6) }).unwrap();
    assert_eq!((ids(&rest).len(), ids(&rest)[0], rest.has_more), (6, "cmpl-5", false));
    let since = Page { since: Some(first.newest), ..page(10) };
    assert_eq!(rig.reader.list(&Filter::default(), &since).unwrap().requests, []);
    rig.writer.keep(vec![trace(10)], NOW).unwrap();
    assert_eq!(ids(&rig.reader.list(&Filter::default(), &since).unwrap()), ["cmpl-10"]);
}

#[test]
fn filters_are_taken_together() {
    let mut rig = rig(100);
    let failed = Trace { error: Some("the pool's 100% is spent".into()), ..trace(12) };
    let record = UsageRecord { outcome: Outcome::Failed, ..failed.record.clone() };
    rig.writer.keep((0..12).map(trace).chain([Trace { record, ..failed }]).collect(), NOW).unwrap();
    let mut found = |change: &dyn Fn(&mut Filter)| {
        let mut filter = Filter::default();
        change(&mut filter);
        rig.reader.list(&filter, &page(100)).unwrap().requests.len()
    };
    assert_eq!(found(&|f| f.model = Some("even".into())), 7);
    assert_eq!(found(&|f| (f.model, f.project) = (Some("even".into()), Some("p0".into()))), 3);
    assert_eq!(found(&|f| f.organisation = Some("other".into())), 0);
    assert_eq!(found(&|f| f.key = Some("k1".into())), 13);
    assert_eq!(found(&|f| f.outcome = Some(Outcome::Failed)), 1);
    assert_eq!(found(&|f| f.min_e2e_ns = Some(10_000_000)), 3);
    assert_eq!(found(&|f| (f.from_ms, f.to_ms) = (Some(NOW + 2), Some(NOW + 5))), 3);
    for (text, count) in [("über", 13), ("CMPL-1", 4), ("100% is", 1), ("%", 1), ("_", 0), ("p1", 4)] {
        assert_eq!(found(&|f| f.text = Some(text.into())), count, "{text}");
    }
}

#[test]
fn what_is_too_old_goes() {
    let mut rig = rig(100);
    rig.writer.keep((0..4).map(with_content).collect(), NOW).unwrap();
    let kept = |rig: &mut Rig| {
        let all = rig.reader.list(&Filter::default(), &page(100)).unwrap();
        (all.requests.len(), all.requests.iter().filter(|kept| kept.has_content).count())
    };
    assert_eq!(kept(&mut rig), (4, 3), "p2 keeps no texts");
    rig.writer.sweep(NOW + 2 * DAY_MS).unwrap();
    assert_eq!(kept(&mut rig), (4, 3));
    rig.writer.sweep(NOW + 2 * DAY_MS + 1).unwrap();
    assert_eq!(kept(&mut rig), (4, 0));
    rig.writer.sweep(NOW + 7 * DAY_MS + 2).unwrap();
    assert_eq!(kept(&mut rig), (2, 0));
}

#[test]
fn texts_that_are_deleted_are_on_the_disk_no_more() {
    let mut rig = rig(100);
    let on_disk = |rig: &Rig, text: &str| {
        let files = std::fs::read_dir(rig.folder.path()).unwrap().map(|entry| entry.unwrap().path());
        let has = |bytes: Vec<u8>| bytes.windows(text.len()).any(|part| part == text.as_bytes());
        files.into_iter().any(|file| has(std::fs::read(file).unwrap()))
    };
    rig.writer.keep((0..5).map(with_content).collect(), NOW).unwrap();
    assert!(on_disk(&rig, "prompt 1") && on_disk(&rig, "answer 4"));
    let one = rig.reader.find("cmpl-1").unwrap().unwrap();
    assert_eq!(one.content.unwrap().answers[0].text, "answer 1");
    assert_eq!(rig.writer.delete(&Deletion::Request(one.kept.number)).unwrap(), 1);
    assert_eq!(rig.writer.delete(&Deletion::Request(one.kept.number)).unwrap(), 0);
    assert!(!on_disk(&rig, "prompt 1") && !on_disk(&rig, "answer 1") && on_disk(&rig, "answer 4"));
    assert_eq!(rig.writer.delete(&Deletion::Project("p0".into())).unwrap(), 2);
    assert!(!on_disk(&rig, "prompt 0") && !on_disk(&rig, "prompt 3") && on_disk(&rig, "prompt 4"));
    // Switched off: the next sweep deletes what is left.
    *rig.days.lock().unwrap() = None;
    rig.writer.sweep(NOW).unwrap();
    assert!(!on_disk(&rig, "prompt 4"));
    rig.writer.keep(vec![with_content(6)], NOW).unwrap();
    assert_eq!(rig.reader.find("cmpl-6").unwrap().unwrap().content, None);
}

#[test]
fn room_that_is_needed_no_more_is_given_back() {
    let mut rig = rig(100);
    let large = |i: u64| {
        let content =
            move || Content { prompt: Excerpt { text: "x".repeat(1 << 20), cut: false }, answers: Vec::new() };
        Trace { content: Some(Box::new(content)), ..trace(3 * i) }
    };
    rig.writer.keep((0..3).map(large).collect(), NOW).unwrap();
    let pragma = |rig: &Rig, name: &str| {
        rig.writer.connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0)).unwrap()
    };
    let before = pragma(&rig, "page_count");
    assert_eq!(rig.writer.delete(&Deletion::Project("p0".into())).unwrap(), 3);
    let free = pragma(&rig, "freelist_count");
    assert!(free > 700, "three megabytes: {free}");
    rig.writer.sweep(NOW).unwrap();
    assert_eq!((pragma(&rig, "freelist_count"), pragma(&rig, "page_count") <= before - free), (0, true));
}

#[test]
fn the_newest_of_an_organisation_is_its_own() {
    let mut rig = rig(100);
    let other = Trace { owner: Owner { organisation: "other".into(), ..Owner::default() }, ..trace(1) };
    rig.writer.keep(vec![trace(0), other], NOW).unwrap();
    for (organisation, newest) in [(None, 2), (Some("acme"), 1), (Some("other"), 2), (Some("nobody"), 0)] {
        let filter = Filter { organisation: organisation.map(str::to_owned), ..Filter::default() };
        assert_eq!(rig.reader.list(&filter, &page(9)).unwrap().newest, newest, "{organisation:?}");
    }
}

#[test]
fn files_that_are_something_else_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("traces.sqlite");
    let open =
        || Writer::open(&path, Settings { keep: 1, keep_days: 1 }, Arc::new(|_| None)).err().map(|e| e.to_string());
    std::fs::write(&path, b"this is no database, however long it may be").unwrap();
    assert!(open().unwrap().contains("not a database"));
    assert_eq!(std::fs::read(&path).unwrap().len(), 43, "it is as it was");
    std::fs::remove_file(&path).unwrap();
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE t (x); PRAGMA application_id = 7").unwrap();
    assert!(open().unwrap().contains("something else"));
    std::fs::remove_file(&path).unwrap();
    assert_eq!(open(), None);
    Connection::open(&path).unwrap().execute_batch("PRAGMA user_version = 99").unwrap();
    assert!(open().unwrap().contains("newer version"));
}
