//! The books by commands: while no server runs, beside one, and the ledger's own commands.

use serde_json::{Value, json};

use crate::serving::Serving;
use crate::support::{Sandbox, text};
use crate::tiny_model::sandbox;

/// A customer `acme` with money, a project and a key, made by commands; gives the key.
pub(crate) fn customer(sandbox: &Sandbox) -> String {
    for arguments in [
        &["prices", "add", "tiny", "--input", "10 per 1M", "--output", "30 per 1M", "--from", "2020-01-01T00:00:00Z"][..],
        &["plans", "add", "basic"],
        &["customers", "add", "acme", "--name", "Acme 有限公司", "--plan", "basic", "--credit", "0"],
        &["customers", "project", "web", "--customer", "acme"],
        &["customers", "pay", "acme", "5.00", "--reference", "transfer 17"],
    ] {
        sandbox.run(arguments).good();
    }
    sandbox.run(&["keys", "add", "web-1", "--project", "web"]).good().trim().to_owned()
}

pub(crate) fn complete(serving: &Serving, key: &str) -> String {
    let body = json!({"model": "tiny", "prompt": "abc", "max_tokens": 4, "ignore_eos": true}).to_string();
    serving.request_with("POST /v1/completions", &format!("Authorization: Bearer {key}\r\n"), &body)
}

fn answer(text: &str) -> Value {
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap()
}

#[test]
fn commands_keep_the_books_beside_a_server_and_without_one() {
    let sandbox = sandbox();
    let key = customer(&sandbox);
    let serving = Serving::start(&sandbox, &["tiny.gguf", "--kv-memory", "1MiB"]);
    let first = answer(&complete(&serving, &key));
    let charged = first["usage"]["charged"]["amount"].as_str().unwrap().to_owned();
    assert_ne!(charged, "0");

    let shown = sandbox.run(&["customers", "show", "acme"]).json();
    assert_eq!(
        shown["standing"]["balance"].as_str().unwrap().parse::<f64>().unwrap(),
        5.0 - charged.parse::<f64>().unwrap()
    );
    assert_eq!((&shown["projects"][0]["id"], &shown["keys"][0]["id"]), (&json!("web"), &json!("web-1")));
    let report = sandbox.run(&["report", "--by", "customer,model", "--json"]).json();
    let row = &report["data"][0];
    assert_eq!(
        (&row["organisation"], &row["model"], &row["revenue"]),
        (&json!("acme"), &json!("tiny"), &json!(charged))
    );
    assert_eq!(report["totals"]["revenue"], json!(charged));
    assert!(sandbox.run(&["report"]).good().contains("amounts in USD"));
    assert!(sandbox.run(&["tfp", "--by", "task,day"]).good().contains("TFP in USD per 1M tokens (total)"));
    let statement = sandbox.run(&["report", "--statement", "--json"]).json();
    assert_eq!((&statement["revenue"], &statement["sold"]["requests"]), (&json!(charged), &json!(1)));
    let shown = sandbox.run(&["report", "--statement"]).good();
    for part in ["Income statement", &charged, "60-80 %", "  in progress", "per 1M tokens: full cost", "utilisation"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let past = ["report", "--statement", "--compare-from", "2020-01-01", "--compare-to", "2020-01-31"];
    let error = sandbox.run(&past).bad(2);
    assert!(error.contains("these periods cannot be compared: earlier."), "{error}");

    let next = sandbox.run(&["keys", "rotate", "web-1"]).good().trim().to_owned();
    assert!(complete(&serving, &key).starts_with("HTTP/1.1 401"), "the old text works on");
    answer(&complete(&serving, &next));
    let request = first["id"].as_str().unwrap();
    sandbox.run(&["customers", "refund", request, &charged, "--reference", "t1", "--reason", "late"]).good();
    let error = sandbox.run(&["customers", "refund", request, &charged, "--reference", "t2"]).bad(2);
    assert!(error.contains("left"), "{error}");
    sandbox.run(&["customers", "set", "acme", "--set", "suspended=true"]).good();
    let refused = complete(&serving, &next);
    assert!(refused.starts_with("HTTP/1.1 403") && refused.contains("is suspended"), "{refused}");
    // Of changes at one time none is lost.
    std::thread::scope(|scope| {
        for field in ["name=Acme 2", "bounds.limits.requests_per_minute=7", "bounds.budget.amount=9"] {
            let sandbox = &sandbox;
            scope.spawn(move || sandbox.run(&["customers", "set", "acme", "--set", field]).good());
        }
    });
    let acme = sandbox.run(&["customers", "show", "acme"]).json()["organisation"].clone();
    assert_eq!((&acme["name"], &acme["bounds"]["limits"]["requests_per_minute"]), (&json!("Acme 2"), &json!(7)));
    assert_eq!((&acme["bounds"]["budget"]["amount"], &acme["suspended"]), (&json!("9.00"), &json!(true)));
    sandbox.run(&["customers", "set", "acme", "--set", "name=Acme 有限公司", "--set", "bounds=null"]).good();
    drop(serving);
    let books = sandbox.path(".local/share/tokenworks/books.db");
    std::fs::rename(&books, sandbox.path("away.db")).unwrap();
    std::fs::write(&books, "").unwrap();
    let error = sandbox.run(&["serve", "tiny.gguf", "--port", "0"]).bad(1);
    assert!(error.contains("are missing or empty"), "{error}");
    let error = sandbox.run(&["customers", "list"]).bad(1);
    assert!(error.contains("are missing or empty"), "{error}");
    std::fs::rename(sandbox.path("away.db"), &books).unwrap();

    // The server was killed: its socket is still there, and nobody listens.
    let acme = sandbox.run(&["customers", "set", "acme", "--set", "suspended=false"]).json();
    assert_eq!((&acme["suspended"], &acme["plan"]), (&json!(false), &json!("basic")));
    assert!(sandbox.run(&["customers", "list"]).good().contains("Acme 有限公司"));
    let audit = sandbox.run(&["customers", "audit", "--json"]).json();
    assert!(
        audit.as_array().unwrap().iter().all(|act| act["actor"] == "server/operator" || act["actor"] == "server/start"),
        "{audit}"
    );
    assert!(sandbox.run(&["ledger", "verify"]).good().starts_with("The ledger is right"));
}

#[test]
fn wrong_words_name_the_field_and_the_fix() {
    let sandbox = sandbox();
    customer(&sandbox);
    let whole = ["customers", "set", "acme", "--set", "bounds.budget.amount=5"];
    assert_eq!(sandbox.run(&whole).json()["bounds"]["budget"]["amount"], "5.00");
    let fraction = ["customers", "set", "acme", "--set", "bounds.budget.amount=0.1"];
    assert_eq!(sandbox.run(&fraction).json()["bounds"]["budget"]["amount"], "0.10");
    let budget = sandbox.run(&["customers", "show", "acme"]).json()["budgets"][0].clone();
    assert_eq!((&budget["id"], &budget["amount"], &budget["spent"]), (&json!("acme"), &json!("0.10"), &json!("0.00")));
    for (arguments, part) in [
        (&["customers", "add", "acme", "--plan", "basic"][..], "already"),
        (&["customers", "add", "b"], "needs a plan"),
        (&["customers", "add", "b", "--plan", "gold"], "there is no `gold`"),
        (&["customers", "set", "nobody"], "there is no \"nobody\""),
        (&["customers", "set", "acme", "--set", "bound.x=1"], "bound"),
        (&["customers", "set", "acme", "--set", "id=other"], "changes no id"),
        (&["customers", "project", "new"], "--customer acme"),
        (&["plans", "add", "p", "--at-pool-end", "stop"], "--pool"),
        (&["plans", "add", "p", "--zone", "Mars/Base"], "zone"),
        (&["prices", "add", "m", "--input", "-1 per 1M", "--output", "1 per 1M"], "input"),
        (&["prices", "import", "tiny.gguf"], "price file"),
        (&["keys", "add", "k", "--project", "none"], "there is no `none`"),
        (&["report", "--from", "yesterday"], "--from yesterday is no day"),
        (&["report", "--from", "0001-01-01"], "--from 0001-01-01 is before 1970"),
        (&["report", "--statement", "--compare-from", "2026-01-01"], "--compare-to"),
        (&["report", "--compare-from", "2026-01-01", "--compare-to", "2026-01-02"], "--statement"),
        (&["report", "--statement", "--by", "model"], "--by"),
        (&["report", "--from", "2026-01-01T08:00:00Z"], "--from 2026-01-01T08:00:00Z is no day"),
        (&["report", "--statement", "--from", "2026-01-01T08:00:00Z"], "--to is missing"),
        (
            &["report", "--statement", "--from", "2026-01-01", "--to", "2026-01-02T08:00:00Z"],
            "--from 2026-01-01 is no time",
        ),
        (
            &["report", "--statement", "--compare-from", "yesterday", "--compare-to", "2026-01-02"],
            "--compare-from yesterday is no day",
        ),
        (&["ledger", "export", "--customer", "acme"], "--format focus"),
        (
            &["ledger", "export", "--format", "focus", "--customer", "nobody", "--output", "x.csv"],
            "there is no `nobody`",
        ),
        (&["customers", "list", "--data-dir", "mistyped"], "there are no books in"),
        (&["customers", "pay", "acme", "-7", "--reference", "out"], "amount: -7.00 is more than can be paid out: 5.00"),
        (&["customers", "pay", "acme", "0", "--reference", "out"], "amount: 0 changes nothing"),
        (&["customers", "pay", "acme", "0.0000000001", "--reference", "out"], "amount: `0.0000000001` has more digits"),
        (
            &["customers", "pay", "acme", "9223372036", "--reference", "out"],
            "amount: with 9223372036.00 more a balance",
        ),
        (&["customers", "refund", "chatcmpl-1", "-1", "--reference", "r"], "no request of this id was charged"),
        (&["keys", "add", "late", "--project", "web", "--expires", "2020-01-01T00:00:00Z"], "it lies in the past"),
        (&["config", "check"], "the books are in USD"),
    ] {
        let mut command = sandbox.command(arguments);
        if arguments[0] == "config" {
            command.env("TOKENWORKS_BOOKS_CURRENCY", "EUR");
        }
        let error = crate::support::ended(command.output().unwrap()).bad(2);
        assert!(error.contains(part), "{arguments:?}: {error}");
    }
    let focus = sandbox.run(&["ledger", "export", "--format", "focus", "--customer", "nobody"]);
    assert_eq!((focus.code, focus.stdout.as_str()), (Some(2), ""), "no header for a customer that is not there");
    let mut command = sandbox.command(&["config", "check"]);
    let error = crate::support::ended(command.env("TOKENWORKS_BOOKS_CURRENCY", "ABC").output().unwrap()).bad(2);
    assert!(error.contains("books.currency") && error.contains("ISO 4217"), "{error}");
    assert!(!sandbox.path("mistyped").exists() && !sandbox.path("x.csv").exists());
}

#[test]
fn a_ledger_is_exported_backed_up_and_restored() {
    let sandbox = sandbox();
    customer(&sandbox);
    sandbox.run(&["prices", "import", text(&example("prices-2024.json"))]).good();
    assert!(sandbox.run(&["prices", "import", text(&example("prices-2024.json"))]).good().contains("there already"));
    let entries = sandbox.run(&["ledger", "export"]).good().lines().count();
    let verified = sandbox.run(&["ledger", "verify", "--json"]).json();
    assert_eq!(verified["entries"], entries);
    assert!(sandbox.run(&["ledger", "export", "--format", "csv"]).good().starts_with("seq,writer"));
    let focus = sandbox.run(&["ledger", "export", "--format", "focus", "--customer", "acme"]).good();
    assert!(focus.lines().next().unwrap().contains("BilledCost"), "{focus}");

    let data = sandbox.run(&["config", "show", "--json"]).json();
    let rows = data.as_array().unwrap();
    assert!(rows.iter().any(|row| row["key"] == "books.seller"));
    sandbox.run(&["ledger", "backup", "copy.db"]).good();
    sandbox.run(&["ledger", "verify", "copy.db"]).good();
    let error = sandbox.run(&["ledger", "restore", "copy.db"]).bad(1);
    assert!(error.contains("exists already"), "{error}");
    let note = sandbox.run(&["ledger", "restore", "copy.db", "--data-dir", "other"]).stderr;
    assert!(note.contains("key-secret"), "{note}");
    let error = sandbox.run(&["serve", "tiny.gguf", "--port", "0", "--data-dir", "other"]).bad(2);
    assert!(error.contains("the secret in"), "{error}");
    sandbox.write("other/key-secret", "another secret of more than sixteen bytes");
    let error = sandbox.run(&["customers", "list", "--data-dir", "other"]).bad(1);
    assert!(error.contains("hashed with another secret") && error.contains("reset-secret"), "{error}");
    let data = sandbox.path(".local/share/tokenworks");
    std::fs::copy(data.join("key-secret"), sandbox.path("other/key-secret")).unwrap();
    #[cfg(unix)]
    for (private, mode) in [(data.clone(), 0o700), (data.join("books.db"), 0o600)] {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(private).unwrap().permissions().mode() & 0o777, mode);
    }
    let lost = sandbox.run(&["ledger", "restore", "copy.db", "--data-dir", "lost"]).stderr;
    assert!(lost.contains("key-secret"), "{lost}");
    sandbox.run(&["keys", "reset-secret", "--data-dir", "lost"]).good();
    let audit = sandbox.run(&["customers", "audit", "--limit", "1", "--data-dir", "lost", "--json"]).json();
    assert_eq!((&audit[0]["actor"], &audit[0]["record"]), (&json!("server/operator"), &json!("secret of the keys")));
    assert_ne!(audit[0]["before"]["mark"], audit[0]["after"]["mark"]);
    sandbox.run(&["keys", "rotate", "web-1", "--data-dir", "lost"]).good();
    sandbox.run(&["ledger", "verify", "--data-dir", "lost"]).good();
    let restored = sandbox.run(&["customers", "show", "acme", "--data-dir", "other"]).json();
    assert_eq!(restored, sandbox.run(&["customers", "show", "acme"]).json());

    // A name changed in the copy is found.
    let mut bytes = std::fs::read(sandbox.path("copy.db")).unwrap();
    let places: Vec<usize> = (0..bytes.len() - 4).filter(|place| bytes[*place..].starts_with(b"acme")).collect();
    assert!(!places.is_empty());
    places.into_iter().for_each(|place| bytes[place] = b'b');
    std::fs::write(sandbox.path("copy.db"), bytes).unwrap();
    let error = sandbox.run(&["ledger", "verify", "copy.db"]).bad(1);
    assert!(error.contains("the ledger is not right"), "{error}");
    assert!(sandbox.run(&["ledger", "verify", "--data-dir", "nowhere"]).bad(2).contains("there are no books"));
}

#[cfg(unix)]
#[test]
fn two_servers_share_a_ledger_in_postgresql() {
    let cluster = test_support::Cluster::start();
    let url = cluster.database("shared");
    let places = [sandbox(), sandbox()];
    let secret = places[0].write("secret", "a secret of more than sixteen bytes");
    for (writer, place) in places.iter().enumerate() {
        place.write("url", &url);
        let server = format!("[server]\nkey_secret_file = {:?}\n", text(&secret));
        place.write("tokenworks.toml", format!("{server}[books]\npostgres_file = \"url\"\nwriter = {writer}\n"));
    }
    let key = customer(&places[0]);
    let arguments = ["tiny.gguf", "--kv-memory", "1MiB"];
    let servers = places.each_ref().map(|place| Serving::start(place, &arguments));
    // The same number twice would mix two chains.
    let error = places[0].run(&[&["serve", "--port", "0", "--data-dir", "third"], &arguments[..]].concat()).bad(1);
    assert!(error.contains("writer 0 is in use"), "{error}");
    let charges = servers.each_ref().map(|server| {
        answer(&complete(server, &key))["usage"]["charged"]["amount"].as_str().unwrap().parse::<f64>().unwrap()
    });
    let standing = places[1].run(&["customers", "show", "acme"]).json()["standing"].clone();
    let left: f64 = standing["balance"].as_str().unwrap().parse().unwrap();
    assert!((left - (5.0 - charges[0] - charges[1])).abs() < 1e-9, "{standing} {charges:?}");
    // What one revokes the other refuses, in a second at most.
    places[1].run(&["keys", "revoke", "web-1"]).good();
    let begun = std::time::Instant::now();
    while !complete(&servers[0], &key).starts_with("HTTP/1.1 401") {
        assert!(begun.elapsed().as_secs() < 30, "the revoked key works on");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    drop(servers);
    assert_eq!(places[0].run(&["ledger", "verify", "--json"]).json()["heads"].as_array().unwrap().len(), 2);
    assert!(places[0].run(&["ledger", "backup", "copy.db"]).bad(1).contains("pg_dump"));
}

fn example(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name)
}
