//! Administration over HTTP: who may do what, what is refused and how, the audit, reports, exports and backups.

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::books::{ADMIN, Shop};
use crate::client::{Answer, read_until, request};

/// Makes a key and gives its text.
async fn key(shop: &Shop, fields: Value) -> String {
    shop.admin("POST", "/keys", fields).await["key"].as_str().unwrap().to_owned()
}

/// Two customers, each with a project, a team, a member, an end user and a key; gives the key with which the first one
/// manages its own affairs.
async fn neighbours(shop: &Shop) -> String {
    shop.customer().await;
    shop.admin("PUT", "/organisations", json!({"id": "other", "name": "Other", "plan": "basic"})).await;
    shop.admin("PUT", "/projects", json!({"id": "theirs", "organisation": "other", "name": "Theirs"})).await;
    key(shop, json!({"id": "k2", "project": "theirs", "name": "theirs"})).await;
    for (organisation, team) in [("acme", "red"), ("other", "far")] {
        shop.admin("PUT", "/teams", json!({"id": team, "organisation": organisation, "name": "T"})).await;
        shop.admin("PUT", "/members", json!({"organisation": organisation, "person": "ann/b", "role": "admin"})).await;
        shop.admin("PUT", "/end-users", json!({"organisation": organisation, "user": "u/v"})).await;
        let payment = json!({"organisation": organisation, "amount": "1", "reference": "first"});
        shop.admin("POST", "/payments", payment).await;
    }
    let scopes = json!(["inference", "usage", "manage"]);
    key(shop, json!({"id": "boss", "project": "web", "name": "ops", "scopes": scopes, "max_priority": 2})).await
}

async fn ask(shop: &Shop, key: &str, method: &str, path: &str, body: Value) -> Answer {
    shop.ask(key, method, &format!("/admin/v1{path}"), &body).await
}

async fn ids(shop: &Shop, key: &str, path: &str) -> Vec<String> {
    let answer = ask(shop, key, "GET", path, Value::Null).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    assert!(!answer.text().contains("\"hash\""), "{}", answer.text());
    let list = answer.json();
    let word = |record: &Value, field: &str| record[field].as_str().map(str::to_owned);
    let id = |record: &Value| {
        let person = word(record, "person").or(word(record, "user"));
        word(record, "id")
            .unwrap_or_else(|| format!("{}/{}", record["organisation"].as_str().unwrap(), person.unwrap()))
    };
    list["data"].as_array().unwrap().iter().map(id).collect()
}

#[tokio::test]
async fn a_managing_key_sees_and_changes_its_own_organisation() {
    let shop = Shop::open(true).await;
    let boss = neighbours(&shop).await;
    for (path, own) in [
        ("/organisations", &["acme"][..]),
        ("/projects", &["web"]),
        ("/teams", &["red"]),
        ("/keys", &["boss", "k1"]),
        ("/members", &["acme/ann/b"]),
        ("/end-users", &["acme/u/v"]),
    ] {
        assert_eq!(ids(&shop, &boss, path).await, own, "{path}");
    }
    assert_eq!(ids(&shop, ADMIN, "/organisations").await, ["acme", "house", "other"]);
    for path in ["/organisations/acme", "/keys/k1", "/members/acme/ann%2Fb", "/end-users/acme/u/v"] {
        let answer = ask(&shop, &boss, "GET", path, Value::Null).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    }
    let standing = ask(&shop, &boss, "GET", "/organisations/acme/standing", Value::Null).await.json();
    assert_eq!(standing["balance"], "1.00");

    let put = async |path: &str, body: Value| {
        let answer = ask(&shop, &boss, "PUT", path, body).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    };
    let budget = json!({"limits": {"requests_per_minute": 2}, "budget": {"amount": "3"}});
    let web = json!({"id": "web", "organisation": "acme", "name": "Web", "team": "red", "bounds": budget});
    assert_eq!(put("/projects", web).await["record"]["bounds"]["budget"]["amount"], "3.00");
    put("/projects", json!({"id": "new", "organisation": "acme", "name": "New"})).await;
    put("/end-users", json!({"organisation": "acme", "user": "u/v", "blocked": true})).await;
    put("/members", json!({"organisation": "acme", "person": "bob", "role": "viewer"})).await;
    let made = ask(&shop, &boss, "POST", "/keys", json!({"id": "k3", "project": "new", "name": "three"})).await;
    assert_eq!(made.status, 200, "{}", made.text());
    // Changed, and still the same text.
    let change = json!({"id": "k3", "project": "new", "name": "three", "scopes": ["usage"], "max_priority": 2});
    assert_eq!(put("/keys", change).await["version"], 2);
    let text = made.json()["key"].as_str().unwrap().to_owned();
    assert_eq!(shop.ask(&text, "GET", "/v1/usage", &Value::Null).await.status, 200);
    assert_eq!(shop.complete(&text, 1).await.status, 403, "it may only read usage now");
    assert_eq!(ask(&shop, &boss, "POST", "/keys/k3/rotate", json!({})).await.status, 200);
    assert_eq!(ask(&shop, &boss, "DELETE", "/keys/k3", Value::Null).await.status, 200);
    let again = ask(&shop, &boss, "POST", "/keys/k3/rotate", json!({})).await;
    assert!(again.error().message.contains("was revoked"), "{}", again.text());

    let audit = ask(&shop, &boss, "GET", "/audit?order=desc&limit=3", Value::Null).await.json();
    let acts: Vec<_> = audit["data"].as_array().unwrap().iter().map(|act| (&act["actor"], &act["record"])).collect();
    assert_eq!(acts, [(&json!("boss"), &json!("key k3")); 3]);
    let whole = ask(&shop, &boss, "GET", "/audit?limit=1000", Value::Null).await;
    assert!(!whole.text().contains("other") && !whole.text().contains("theirs"), "{}", whole.text());
    assert!(whole.text().contains("payment acme/first"), "{}", whole.text());
}

/// A key that manages `acme` is denied each, and nothing is changed. (In the project `web` there is also a key `root` that
/// administers the plant.)
async fn check_denied<const N: usize>(cases: [(&str, &str, Value, u16, &str); N]) {
    let shop = Shop::open(true).await;
    let boss = neighbours(&shop).await;
    let root = json!({"id": "root", "project": "web", "name": "root", "scopes": ["manage", "plant"]});
    key(&shop, root).await;
    let before = shop.admin("GET", "/audit?limit=1000", Value::Null).await;
    for (method, path, body, status, part) in cases {
        let answer = ask(&shop, &boss, method, path, body.clone()).await;
        assert_eq!(answer.status, status, "{method} {path} {body}: {}", answer.text());
        let error = answer.error();
        assert!(error.message.contains(part), "{method} {path} {body}: {}", error.message);
        if status == 403 {
            assert_eq!(error.code.as_deref(), Some("not_allowed"), "{method} {path}");
        }
    }
    let after = shop.admin("GET", "/audit?limit=1000", Value::Null).await;
    assert_eq!(before, after, "something was changed");
}

#[tokio::test]
async fn a_managing_key_reads_and_does_nothing_beyond_its_own() {
    check_denied([
        // Other kinds of acts.
        ("GET", "/plans", Value::Null, 403, "scope `plant`"),
        ("GET", "/prices", Value::Null, 403, "scope `plant`"),
        ("GET", "/prices/standard/tiny", Value::Null, 403, "scope `plant`"),
        ("PUT", "/plans", json!({"id": "basic", "discount_permille": 1000}), 403, "scope `plant`"),
        ("PUT", "/prices", json!({"model": "tiny"}), 403, "scope `plant`"),
        ("PUT", "/organisations", json!({"id": "acme", "name": "A", "plan": "house"}), 403, "organisations"),
        ("PUT", "/organisations", json!({"id": "mine", "name": "A", "plan": "house"}), 403, "organisations"),
        ("POST", "/payments", json!({"organisation": "acme", "amount": "9", "reference": "x"}), 403, "scope `plant`"),
        ("POST", "/credits", json!({"request": "x", "amount": "9", "reference": "x"}), 403, "scope `plant`"),
        ("GET", "/verify", Value::Null, 403, "scope `plant`"),
        ("GET", "/report", Value::Null, 403, "scope `plant`"),
        ("GET", "/export", Value::Null, 403, "scope `plant`"),
        ("POST", "/backup", json!({"to": "/x"}), 403, "scope `plant`"),
        // Records of another organisation, by path: as if they were not there.
        ("GET", "/organisations/other", Value::Null, 404, "there is no organisation `other`"),
        ("GET", "/organisations/nobody", Value::Null, 404, "there is no organisation `nobody`"),
        ("GET", "/organisations/other/standing", Value::Null, 404, "there is no organisation `other`"),
        ("GET", "/projects/theirs", Value::Null, 404, "there is no project"),
        ("GET", "/teams/far", Value::Null, 404, "there is no team"),
        ("GET", "/keys/k2", Value::Null, 404, "there is no key"),
        ("GET", "/keys/config%2Fops", Value::Null, 404, "there is no key"),
        ("GET", "/members/other/ann%2Fb", Value::Null, 404, "there is no member"),
        ("GET", "/members/other%2Fann/b", Value::Null, 404, "there is no member"),
        ("GET", "/end-users/other%2Fu%2Fv", Value::Null, 404, "there is no end user"),
        ("POST", "/keys/k2/rotate", json!({}), 404, "there is no key"),
        ("DELETE", "/keys/k2", Value::Null, 404, "there is no key"),
    ])
    .await;
}

#[tokio::test]
async fn a_managing_key_names_nothing_of_others() {
    let far = "this key changes `acme` only";
    check_denied([
        // By a field.
        ("PUT", "/teams", json!({"id": "t", "organisation": "other", "name": "T"}), 403, far),
        ("PUT", "/teams", json!({"id": "t", "organisation": "acme/red", "name": "T"}), 403, far),
        ("PUT", "/projects", json!({"id": "p", "organisation": "other", "name": "P"}), 403, far),
        ("PUT", "/projects", json!({"id": "web", "organisation": "other", "name": "P"}), 403, far),
        ("PUT", "/members", json!({"organisation": "other", "person": "eve", "role": "admin"}), 403, far),
        ("PUT", "/members", json!({"organisation": "other/ann", "person": "b", "role": "admin"}), 403, far),
        ("PUT", "/end-users", json!({"organisation": "other", "user": "u/v", "blocked": true}), 403, far),
        ("PUT", "/end-users", json!({"organisation": "other/u", "user": "v", "blocked": true}), 403, far),
        ("PUT", "/projects", json!({"id": "p", "organisation": "acme", "name": "P", "team": "far"}), 400, "no `far`"),
        ("PUT", "/projects", json!({"id": "p", "organisation": "acme", "name": "P", "team": "none"}), 400, "no `none`"),
        ("POST", "/keys", json!({"id": "x", "project": "theirs", "name": "x"}), 400, "`acme` has no project `theirs`"),
        ("POST", "/keys", json!({"id": "x", "project": "none", "name": "x"}), 400, "`acme` has no project `none`"),
        ("POST", "/keys", json!({"id": "x", "project": "web", "name": "x", "owner": "eve"}), 400, "no `eve`"),
        // By the id of a record that is there.
        (
            "PUT",
            "/projects",
            json!({"id": "theirs", "organisation": "acme", "name": "P"}),
            400,
            "`theirs` cannot be used",
        ),
        ("PUT", "/teams", json!({"id": "far", "organisation": "acme", "name": "T"}), 400, "`far` cannot be used"),
        ("POST", "/keys", json!({"id": "k2", "project": "web", "name": "x"}), 400, "`k2` cannot be used"),
        ("POST", "/keys", json!({"id": "k1", "project": "web", "name": "x"}), 400, "a key `k1` already"),
        ("PUT", "/keys", json!({"id": "k2", "project": "web", "name": "x", "scopes": []}), 400, "no key `k2`"),
    ])
    .await;
}

#[tokio::test]
async fn a_managing_key_gives_no_more_than_it_has() {
    check_denied([
        // More than the key has itself.
        (
            "POST",
            "/keys",
            json!({"id": "x", "project": "web", "name": "x", "scopes": ["plant"]}),
            403,
            "`plant` is more",
        ),
        ("POST", "/keys", json!({"id": "x", "project": "web", "name": "x", "max_priority": 3}), 403, "above"),
        ("PUT", "/keys", json!({"id": "boss", "project": "web", "name": "b", "scopes": ["plant"]}), 403, "`plant`"),
        ("POST", "/keys/root/rotate", json!({}), 403, "administers the plant"),
        ("DELETE", "/keys/root", Value::Null, 403, "administers the plant"),
        (
            "PUT",
            "/keys",
            json!({"id": "root", "project": "web", "name": "r", "scopes": ["manage"]}),
            403,
            "administers the plant",
        ),
        // The server's own fields.
        ("POST", "/keys", json!({"id": "x", "project": "web", "name": "x", "hash": "00"}), 400, "is the server's"),
        ("PUT", "/keys", json!({"id": "k1", "project": "web", "name": "x", "revoked": false}), 400, "is the server's"),
    ])
    .await;
}

#[tokio::test]
async fn the_scope_is_asked_for_at_each_request() {
    let shop = Shop::open(true).await;
    neighbours(&shop).await;
    let owned = json!({"id": "anns", "project": "web", "name": "a", "owner": "ann/b", "scopes": ["manage"]});
    let anns = key(&shop, owned).await;
    assert_eq!(ids(&shop, &anns, "/projects").await, ["web"]);
    let plant = json!({"id": "x", "project": "web", "name": "x", "owner": "ann/b", "scopes": ["plant"]});
    let answer = ask(&shop, ADMIN, "POST", "/keys", plant).await;
    assert!(answer.error().message.contains("`plant` is more than the role of `ann/b` allows"), "{}", answer.text());
    shop.admin("PUT", "/members", json!({"organisation": "acme", "person": "ann/b", "role": "member"})).await;
    assert_eq!(ask(&shop, &anns, "GET", "/projects", Value::Null).await.status, 403);
}

/// Each is refused with the path of the field, what was seen and the fix.
async fn check_refused<const N: usize>(cases: [(&str, &str, Value, &str, [&str; 2]); N]) {
    let shop = Shop::open(true).await;
    neighbours(&shop).await;
    for (method, path, body, param, parts) in cases {
        let answer = ask(&shop, ADMIN, method, path, body.clone()).await;
        assert_eq!(answer.status, 400, "{method} {path} {body}: {}", answer.text());
        let error = answer.error();
        assert_eq!(error.param.as_deref(), Some(param), "{method} {path} {body}: {}", error.message);
        for part in parts {
            assert!(error.message.contains(part), "{method} {path} {body}: no {part:?} in {}", error.message);
        }
    }
}

/// `base` with other fields.
fn with(mut base: Value, change: Value) -> Value {
    for (name, value) in change.as_object().unwrap() {
        base[name] = value.clone();
    }
    base
}

#[tokio::test]
async fn wrong_prices_are_named() {
    let price = |change: Value| {
        let tiers = json!([{"input": "1 per 1M", "output": "1 per 1M"}]);
        ("PUT", "/prices", with(json!({"model": "tiny", "from": "2030-01-01T00:00:00Z", "tiers": tiers}), change))
    };
    let tier = |input: &str| price(json!({"tiers": [{"input": input, "output": "1 per 1M"}]}));
    let late = json!({"tiers": [{"input": "0", "output": "0", "volume_from": 5}]});
    let cases = [
        (tier("-1 per 1M"), "tiers[0].input", ["`-1 per 1M`", "negative; write 0 or more"]),
        (tier("101 per token"), "tiers[0].input", ["above 100000000 per 1M", "check the decimal point"]),
        (tier("0.5"), "tiers[0].input", ["`0.5`: no `per`", "write e.g. \"10 per 1M\""]),
        (price(json!({"tiers": []})), "tiers", ["0 tiers", "write one tier"]),
        (price(late), "tiers[0].volume_from", ["volumes below 5", "add a tier"]),
        (
            price(json!({"from": "2019-01-01T00:00:00Z"})),
            "from",
            ["2019-01-01T00:00:00Z overlaps version 1", "begin at"],
        ),
        (price(json!({"from": "tomorrow"})), "from", ["`tomorrow`", "write e.g. 2026"]),
        (price(json!({"to": "2029-01-01T00:00:00Z"})), "to", ["2029-01-01T00:00:00Z", "after `from`"]),
        (price(json!({"model": ""})), "model", ["``", "write 1 to 120"]),
        (price(json!({"list": "a/b"})), "list", ["`a/b`", "use letters"]),
    ];
    check_refused(cases.map(|((method, path, body), param, parts)| (method, path, body, param, parts))).await;
}

#[tokio::test]
async fn wrong_plans_and_organisations_are_named() {
    let plan = |change: Value| ("/plans", with(json!({"id": "p"}), change));
    let zone = |name: &str, value: Value| plan(json!({"calendar": {name: value}}));
    let organisation =
        |change: Value| ("/organisations", with(json!({"id": "x", "name": "X", "plan": "basic"}), change));
    let cases = [
        (plan(json!({"price_list": "gold"})), "price_list", ["no price list `gold`", "add prices"]),
        (plan(json!({"models": ["tiny", "huge"]})), "models", ["`huge` has no price", "add its price"]),
        (zone("zone", json!("Mars/Base")), "calendar.zone", ["Mars/Base", "IANA name"]),
        (zone("anchor_day", json!(32)), "calendar.anchor_day", ["32", "use 1 to 31"]),
        (zone("anchor_day", json!(300)), "calendar.anchor_day", ["300", "from 0 to 255"]),
        (plan(json!({"pool": {"tokens": -5}})), "pool.tokens", ["`-5`", "a whole number from 0"]),
        (plan(json!({"pool": {"tokens": 5, "then": "beg"}})), "pool.then", ["`beg`", "`overage` or `stop`"]),
        (plan(json!({"discount_permille": 1001})), "discount_permille", ["1001", "use 0 to 1000"]),
        (plan(json!({"colour": "red"})), "colour", ["unknown field `colour`", "remove it or correct"]),
        (plan(json!({"id": "Bad Id"})), "id", ["`Bad Id` is no id", "use 1 to 64"]),
        (("/plans", json!({})), "id", ["is missing", "add it"]),
        (organisation(json!({"plan": "none"})), "plan", ["`none`", "create it first"]),
        (organisation(json!({"credit": "-1"})), "credit", ["-1.00", "use 0"]),
        (organisation(json!({"credit": 1})), "credit", ["integer `1`", "a string"]),
        (organisation(json!({"name": "\n"})), "name", ["`\\n`", "plain text"]),
    ];
    check_refused(cases.map(|((path, body), param, parts)| ("PUT", path, body, param, parts))).await;
}

#[tokio::test]
async fn wrong_projects_members_and_keys_are_named() {
    let project =
        |change: Value| ("PUT", "/projects", with(json!({"id": "web", "organisation": "acme", "name": "Web"}), change));
    let limits = |name: &str, value: u32| project(json!({"bounds": {"limits": {name: value}}}));
    let budget = |amount: &str| project(json!({"bounds": {"budget": {"amount": amount}}}));
    let member =
        |person: &str, role: &str| ("PUT", "/members", json!({"organisation": "acme", "person": person, "role": role}));
    let key = |change: Value| ("POST", "/keys", with(json!({"id": "new", "project": "web", "name": "new"}), change));
    let unknown = ("PUT", "/keys", json!({"id": "new", "project": "web", "name": "new", "scopes": []}));
    let cases = [
        (project(json!({"id": "p", "organisation": "none"})), "organisation", ["`none`", "create it first"]),
        (project(json!({"organisation": "other"})), "organisation", ["`acme`", "create a new one"]),
        (limits("requests_per_minute", 0), "bounds.limits.requests_per_minute", ["0 lets nothing", "suspend"]),
        (limits("per_day", 1), "bounds.limits.per_day", ["`per_day`", "requests_per_minute"]),
        (budget("-1"), "bounds.budget.amount", ["-1.00", "use 0"]),
        (budget("1e3"), "bounds.budget.amount", ["`1e3`", "12.50"]),
        (budget("9999999999"), "bounds.budget.amount", ["too large", "9,223,372,036"]),
        (project(json!({"bounds": 5})), "bounds", ["integer `5`", "write an object"]),
        (member("x", "king"), "role", ["`king`", "`viewer`"]),
        (member(&"x".repeat(136), "admin"), "person", ["`xxx", "135 bytes"]),
        (key(json!({"scopes": ["all"]})), "scopes[0]", ["`all`", "`inference`"]),
        (key(json!({"expires": "never"})), "expires", ["`never`", "write e.g. 2026"]),
        (key(json!({"project": "none"})), "project", ["`none`", "create it first"]),
        (key(json!({"id": "k1"})), "id", ["a key `k1` already", "another id"]),
        (key(json!({"prefix": "x"})), "prefix", ["`prefix`", "leave it out"]),
        (unknown, "id", ["no key `new`", "POST /admin/v1/keys"]),
    ];
    check_refused(cases.map(|((method, path, body), param, parts)| (method, path, body, param, parts))).await;
}

#[tokio::test]
async fn wrong_payments_and_queries_are_named() {
    let pay = |change: Value| {
        ("POST", "/payments", with(json!({"organisation": "acme", "amount": "1", "reference": "x"}), change))
    };
    let credit = ("POST", "/credits", json!({"request": "cmpl-1", "amount": "1", "reference": "x"}));
    let get = |path: &'static str| ("GET", path, Value::Null);
    let cases = [
        (pay(json!({"amount": "2", "reference": "first"})), "reference", ["for 1.00", "another reference"]),
        (pay(json!({"amount": "0"})), "amount", ["0 changes nothing", "what was paid"]),
        (pay(json!({"amount": "x"})), "amount", ["`x`", "12.50"]),
        (pay(json!({"amount": 5})), "amount", ["the number 5", "must be a string"]),
        (pay(json!({"reference": ""})), "reference", ["``", "plain text"]),
        (pay(json!({"organisation": "none"})), "organisation", ["`none`", "create it"]),
        (credit, "request", ["no request of this id was charged", "`id` of its answer"]),
        (("POST", "/backup", json!({})), "to", ["missing", "absolute path"]),
        (get("/audit?limit=0"), "limit", ["got `0`", "1 to 1000"]),
        (get("/audit?after=-1"), "after", ["got `-1`", "`seq`"]),
        (get("/audit?order=up"), "order", ["got `up`", "asc or desc"]),
        (get("/audit?since=1"), "since", ["unrecognized", "remove it"]),
        (get("/report?group_by=price"), "group_by", ["got `price`", "organisation, model"]),
        (get("/report?start_time=5&end_time=4"), "start_time", ["before", "3660 days"]),
        (get("/report?start_time=0&end_time=999999999"), "start_time", ["before", "3660 days"]),
        (get("/export?format=xml"), "format", ["got `xml`", "csv or jsonl"]),
    ];
    check_refused(cases.map(|((method, path, body), param, parts)| (method, path, body, param, parts))).await;
}

#[tokio::test]
async fn the_audit_comes_in_pages() {
    let shop = Shop::open(true).await;
    neighbours(&shop).await;
    let whole = shop.admin("GET", "/audit?limit=1000", Value::Null).await;
    assert_eq!(whole["has_more"], false);
    let (mut seen, mut path) = (Vec::new(), "/audit?limit=4".to_owned());
    loop {
        let page = shop.admin("GET", &path, Value::Null).await;
        seen.extend(page["data"].as_array().unwrap().iter().cloned());
        path = format!("/audit?limit=4&after={}", page["next_after"]);
        if page["has_more"] == false {
            break;
        }
    }
    assert_eq!(Value::Array(seen), whole["data"]);
    let newest = shop.admin("GET", "/audit?order=desc&limit=1", Value::Null).await;
    assert_eq!(newest["data"][0], *whole["data"].as_array().unwrap().last().unwrap());
    assert_eq!((&newest["has_more"], &newest["data"][0]["actor"]), (&json!(true), &json!("config/ops")));
    assert!(!whole.to_string().contains("hash"), "{whole}");
}

#[tokio::test]
async fn reports_add_up() {
    let shop = Shop::open(true).await;
    let key = shop.customer().await;
    shop.admin("POST", "/payments", json!({"organisation": "acme", "amount": "5", "reference": "p"})).await;
    let mut charged = Vec::new();
    for (key, tokens) in [(key.as_str(), 3), (&key, 5), (ADMIN, 2)] {
        charged.push(shop.complete(key, tokens).await.json());
    }
    let credit = json!({"request": charged[0]["id"], "amount": "0.00001", "reference": "c"});
    shop.admin("POST", "/credits", credit).await;
    let report = shop.admin("GET", "/report?group_by=model,organisation", Value::Null).await;
    assert_eq!((&report["group_by"], &report["currency"]), (&json!(["organisation", "model"]), &json!("USD")));
    let rows = report["data"].as_array().unwrap();
    let acme = rows.iter().find(|row| row["organisation"] == "acme").unwrap();
    assert_eq!((rows.len(), &acme["model"], &acme["requests"]), (2, &json!("tiny"), &json!(2)));
    // 2 * 4 prompt tokens at 0.00001, 8 made at 0.00003.
    assert_eq!(
        (&acme["list"], &acme["credited"], &acme["revenue"]),
        (&json!("0.00032"), &json!("0.00001"), &json!("0.00031"))
    );
    assert_eq!(acme["quantities"]["out_visible"], 8);
    let totals = &report["totals"];
    assert_eq!((&totals["requests"], &totals["revenue"]), (&json!(3), &json!("0.00031")));
    assert_eq!(totals["quantities"]["out_visible"], 10);
    let one = shop.admin("GET", "/report", Value::Null).await;
    assert_eq!((one["data"].as_array().unwrap().len(), &one["totals"]), (1, totals));
    let days = shop.admin("GET", "/report?group_by=day,tag", Value::Null).await;
    assert_eq!((&days["data"][0]["tag"], days["data"][0]["day"].as_str().unwrap().len()), (&json!("night"), 10));
    assert_eq!(days["data"][0].get("model"), None);
    let none = shop.admin("GET", "/report?start_time=0&end_time=86400", Value::Null).await;
    assert_eq!((&none["data"], &none["totals"]["requests"]), (&json!([]), &json!(0)));
}

#[tokio::test]
async fn the_ledger_is_exported_whole_or_seen_to_be_broken_off() {
    let shop = Shop::open(true).await;
    neighbours(&shop).await;
    let entries = shop.admin("GET", "/verify", Value::Null).await["entries"].as_u64().unwrap();
    let answer = ask(&shop, ADMIN, "GET", "/export?format=jsonl", Value::Null).await;
    assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
    let lines: Vec<Value> = answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len() as u64, entries);
    let csv = ask(&shop, ADMIN, "GET", "/export", Value::Null).await;
    assert!(csv.text().starts_with("seq,writer,at_ms,kind,id,"), "{}", csv.text());
    assert!(csv.header("content-disposition").unwrap().contains("ledger.csv"));

    // More than the sockets and the channel between hold, so that the export waits for its reader.
    let books = std::sync::Arc::clone(&shop.books);
    let fill = move || {
        for number in 0..64_u8 {
            let put = ledger::Command::Put {
                id: ledger::EntryId([number; 16]),
                kind: 999,
                key: number.to_string(),
                version: 1,
                actor: "test".to_owned(),
                body: vec![b'x'; 128 * 1024],
            };
            books.ledger().submit(&ledger::Batch { at_ms: 0, commands: vec![put] }).unwrap();
        }
        books.ledger().flush(std::time::Duration::from_secs(60)).unwrap();
    };
    tokio::task::spawn_blocking(fill).await.unwrap();
    let mut stream = TcpStream::connect(shop.address).await.unwrap();
    let bearer = format!("Authorization: Bearer {ADMIN}");
    let head = request("localhost", "GET", "/admin/v1/export?format=jsonl", &[&bearer], b"");
    stream.write_all(&head).await.unwrap();
    read_until(&mut stream, "\"seq\":1,").await;
    let busy = ask(&shop, ADMIN, "GET", "/verify", Value::Null).await;
    assert_eq!((busy.status, busy.error().code.as_deref()), (503, Some("overloaded")));
    drop(stream);
    // The reader went away: the next one can go.
    for _ in 0..2_000 {
        if ask(&shop, ADMIN, "GET", "/verify", Value::Null).await.status == 200 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the export goes on without a reader");
}

#[tokio::test]
async fn a_backup_is_a_ledger_that_only_its_owner_reads() {
    let shop = Shop::open(true).await;
    neighbours(&shop).await;
    let folder = shop.folder.path().to_str().unwrap();
    let to = format!("{folder}/backup.db");
    let made = shop.admin("POST", "/backup", json!({"to": to})).await;
    assert_eq!(made["bytes"], std::fs::metadata(&to).unwrap().len());
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o600);
        std::os::unix::fs::symlink("/nowhere/at/all", format!("{folder}/link")).unwrap();
    }
    let report = ledger::restore(to.as_ref(), format!("{folder}/copy.db").as_ref(), None).unwrap();
    assert!(report.entries > 10, "{report:?}");
    for (path, part) in [
        (to, "exists already"),
        (format!("{folder}/link"), "exists already"),
        ("backup.db".to_owned(), "is no absolute path"),
        ("../backup.db".to_owned(), "is no absolute path"),
        ("/".to_owned(), "is no absolute path"),
        (format!("{folder}/none/backup.db"), "is in no folder"),
        (format!("{folder}/books.db/x"), "is in no folder"),
    ] {
        let answer = ask(&shop, ADMIN, "POST", "/backup", json!({"to": path})).await;
        assert_eq!((answer.status, answer.error().param.as_deref()), (400, Some("to")), "{path}: {}", answer.text());
        assert!(answer.error().message.contains(part), "{path}: {}", answer.text());
    }
}

#[tokio::test]
async fn of_two_who_make_the_same_key_one_does() {
    let shop = Shop::open(true).await;
    shop.customer().await;
    let body = json!({"id": "same", "project": "web", "name": "same"});
    let make = || ask(&shop, ADMIN, "POST", "/keys", body.clone());
    let (a, b, c) = tokio::join!(make(), make(), make());
    let mut statuses = [a.status, b.status, c.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 400, 400]);
}
