//! The command line and the configuration, as a person meets them.

use crate::support::{Sandbox, ended, text};

#[test]
fn every_command_has_help_with_an_example() {
    let sandbox = Sandbox::new();
    for command in [
        vec!["serve"],
        vec!["run"],
        vec!["chat"],
        vec!["pull"],
        vec!["models"],
        vec!["tokenize"],
        vec!["bench"],
        vec!["eval", "perplexity"],
        vec!["config", "check"],
        vec!["config", "show"],
        vec!["keys", "new"],
        vec!["completions"],
    ] {
        let mut arguments = command.clone();
        arguments.push("--help");
        let help = sandbox.run(&arguments).good();
        assert!(help.contains("Example") && help.contains("tokenworks"), "{command:?}: {help}");
    }
    assert!(sandbox.run(&["--help"]).good().contains("Exit codes"));
    assert!(sandbox.run(&["--version"]).good().starts_with("tokenworks "));
}

#[test]
fn a_wrong_command_line_is_code_2() {
    let sandbox = Sandbox::new();
    assert!(sandbox.run(&["serv"]).bad(2).contains("serve"));
    assert!(sandbox.run(&["models", "--jsno"]).bad(2).contains("--json"));
    sandbox.run(&[]).bad(2);
    let error = sandbox.run(&["--threads", "none", "models"]).bad(2);
    assert!(error.contains("flag --threads: expected a whole number from 1 to 1024"), "{error}");
}

#[test]
fn completions_for_every_shell() {
    let sandbox = Sandbox::new();
    // A broken configuration must not break the shell's start.
    sandbox.write("tokenworks.toml", "broken");
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = sandbox.run(&["completions", shell]).good();
        assert!(script.contains("tokenworks") && script.contains("perplexity"), "{shell}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn bash_completes_with_the_script() {
    let sandbox = Sandbox::new();
    sandbox.write("script", sandbox.run(&["completions", "bash"]).good());
    for (words, expect) in [("tokenworks pul", "pull\n"), ("tokenworks eval perp", "perplexity\n")] {
        let program = "set -u; source ./script; COMP_WORDS=($WORDS); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); \
                       _tokenworks tokenworks \"${COMP_WORDS[-1]}\" \"${COMP_WORDS[-2]}\"; echo \"${COMPREPLY[*]}\"";
        let mut bash = std::process::Command::new("/bin/bash");
        bash.args(["-c", program]).env("WORDS", words).current_dir(sandbox.path(""));
        assert_eq!(ended(bash.output().unwrap()).good(), expect, "{words}");
    }
}

#[test]
fn layers_in_order() {
    let sandbox = Sandbox::new();
    let shown = |arguments: &[&str], variable: Option<&str>| {
        let mut command = sandbox.command(&[&["config", "show", "--json"], arguments].concat());
        if let Some(level) = variable {
            command.env("TOKENWORKS_LOG_LEVEL", level);
        }
        let rows = ended(command.output().unwrap()).json();
        let row = rows.as_array().unwrap().iter().find(|r| r["key"] == "log.level").unwrap().clone();
        (row["value"].as_str().unwrap().to_owned(), row["origin"].as_str().unwrap().to_owned())
    };
    assert_eq!(shown(&[], None), ("info".into(), "default".into()));
    sandbox.write(".config/tokenworks/tokenworks.toml", "[log]\nlevel = \"error\"\n");
    let (value, origin) = shown(&[], None);
    assert_eq!(value, "error");
    assert!(origin.ends_with(".config/tokenworks/tokenworks.toml line 2"), "{origin}");
    sandbox.write("tokenworks.toml", "\n\n[log]\nlevel = \"warn\"\n");
    assert_eq!(shown(&[], None), ("warn".into(), "./tokenworks.toml line 4".into()));
    let other = sandbox.write("other.toml", "log.level = \"trace\"\n");
    assert_eq!(shown(&["--config", text(&other)], None).0, "trace");
    assert_eq!(shown(&[], Some("debug")), ("debug".into(), "environment variable TOKENWORKS_LOG_LEVEL".into()));
    assert_eq!(shown(&["--log-level", "off"], Some("debug")), ("off".into(), "flag --log-level".into()));
}

#[test]
fn errors_name_file_key_and_fix() {
    let sandbox = Sandbox::new();
    for (content, parts) in [
        ("[server]\nprot = 1\n", vec!["t.toml line 2", "unknown key server.prot", "did you mean server.port?"]),
        ("[server]\nport = 70000\n", vec!["t.toml line 2", "server.port", "from 0 to 65535, found 70000"]),
        ("[log]\nformat = \"xml\"\n", vec!["t.toml line 2", "\"text\" or \"json\", found \"xml\""]),
        ("[server]\ntls_key = \"k.pem\"\n", vec!["t.toml line 2", "server.tls_certificate"]),
        ("model = \n", vec!["t.toml line 1", "not valid TOML"]),
        ("model = \"smollm2\"\n", vec!["unknown model \"smollm2\""]),
        ("[models.a]\nsource = \"hf:../x/y\"\n", vec!["models.a", "no model on the hub"]),
        (
            "[models.a]\nsource = \"a.gguf\"\nchat_template_file = \"no.jinja\"\n",
            vec!["models.a.chat_template_file", "no.jinja"],
        ),
        ("[models.a]\nsource = \"a.gguf\"\nchat_template = \"{% if %}\"\n", vec!["models.a.chat_template", "template"]),
        ("[server]\ncors_origins = [\"*\"]\n", vec!["server.cors_origins holds \"*\"", "any web page"]),
        ("[log]\nlevel = \"loud\"\n", vec!["t.toml line 2: log.level", "error, warn, info", "found \"loud\""]),
        ("[server]\ncors_origins = [\"example.com\"]\n", vec!["server.cors_origins[0]", "is no origin"]),
        ("[server]\nhost = \"0.0.0.0\"\n", vec!["0.0.0.0", "server.keys"]),
    ] {
        let file = sandbox.write("t.toml", content);
        let error = sandbox.run(&["config", "check", text(&file)]).bad(2);
        for part in parts {
            assert!(error.contains(part), "{content}: {part} in {error}");
        }
        assert!(error.contains("hint:"), "{error}");
    }
    let error = sandbox.run(&["config", "check", "--config", "missing.toml"]).bad(2);
    assert!(error.contains("missing.toml") && error.contains("hint:"), "{error}");
}

#[test]
fn show_lists_models_and_keys_too() {
    let sandbox = Sandbox::new();
    let hash = "0".repeat(64);
    let keys = format!("[[server.keys]]\nname = \"a\"\nhash = \"{hash}\"\n");
    sandbox.write("tokenworks.toml", format!("{keys}[models.mine]\nsource = \"m.gguf\"\nkv_memory = \"1MiB\"\n"));
    let rows = sandbox.run(&["config", "show", "--json"]).json();
    let rows: Vec<(&str, &serde_json::Value, &str)> = rows
        .as_array()
        .unwrap()
        .iter()
        .filter(|row| row["variable"].is_null())
        .map(|row| (row["key"].as_str().unwrap(), &row["value"], row["origin"].as_str().unwrap()))
        .collect();
    let expected = [
        ("models.mine.source", &"m.gguf".into(), "./tokenworks.toml line 5"),
        ("models.mine.kv_memory", &(1 << 20).into(), "./tokenworks.toml line 6"),
        ("server.keys[0].name", &"a".into(), "./tokenworks.toml line 2"),
        ("server.keys[0].hash", &hash.into(), "./tokenworks.toml line 3"),
    ];
    assert_eq!(rows, expected);
}

#[test]
fn an_unknown_variable_is_refused() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.command(&["config", "check"]);
    let error = ended(command.env("TOKENWORKS_SERVER_PROT", "1").output().unwrap()).bad(2);
    assert!(
        error.contains("TOKENWORKS_SERVER_PROT") && error.contains("did you mean TOKENWORKS_SERVER_PORT"),
        "{error}"
    );
}

#[test]
fn a_good_configuration_and_none() {
    let sandbox = Sandbox::new();
    assert!(sandbox.run(&["config", "check"]).good().contains("no configuration file"));
    sandbox.write("tokenworks.toml", "[server]\nport = 9000\n");
    assert!(sandbox.run(&["config", "check"]).good().contains("tokenworks.toml: good"));
}

#[test]
fn check_does_the_arithmetic_of_a_model_that_is_here() {
    let sandbox = crate::tiny_model::sandbox();
    sandbox.write("tokenworks.toml", "[models.tiny]\nsource = \"tiny.gguf\"\nkv_memory = \"1MiB\"\n");
    let report = sandbox.run(&["config", "check", "--json"]).json();
    assert_eq!((&report["good"], &report["problems"]), (&true.into(), &serde_json::json!([])));
    let model = |name: &str| report["models"].as_array().unwrap().iter().find(|m| m["name"] == name).unwrap().clone();
    assert_eq!((&model("tiny")["context_len"], &model("tiny")["kv_bytes"]), (&512.into(), &(1 << 20).into()));
    assert_eq!(model("smollm2-135m")["path"], serde_json::Value::Null);
    let shown = sandbox.run(&["config", "check"]).good();
    assert!(shown.contains("model tiny: context 512 tokens, KV cache 1.0 MiB of f16 = "), "{shown}");
    assert!(shown.contains("model smollm2-135m: not fetched yet"), "{shown}");
    // Of the tiny model's 16 values a head, eight bits with their scales take five eighths.
    assert_eq!((&model("tiny")["kv_type"], &model("tiny")["kv_tokens"]), (&"f16".into(), &4096.into()));
    let mut small = sandbox.command(&["config", "check"]);
    let small = ended(small.env("TOKENWORKS_ENGINE_KV_TYPE", "q8_0").output().unwrap()).good();
    assert!(small.contains("KV cache 1020.0 KiB of q8_0 = 6,528 tokens"), "{small}");
    let long = "kv_memory = \"1MiB\"\ncontext_len = 1024";
    for (own, code, parts) in [
        ("kv_memory = \"1KiB\"", 2, vec!["too small", "512 tokens needs", "set models.tiny.kv_memory to at least \""]),
        ("kv_memory = \"900TiB\"", 2, vec!["does not fit into memory", "set models.tiny.kv_memory lower"]),
        ("kv_type = \"q4_0\"", 2, vec!["kv_type", "\"q8_0\""]),
        (long, 2, vec!["models.tiny.context_len is 1024", "at most 512"]),
        ("aliases = [\"a\", \"a\"]", 2, vec!["answer to the name a", "aliases under [models.tiny]"]),
    ] {
        sandbox.write("tokenworks.toml", format!("[models.tiny]\nsource = \"tiny.gguf\"\n{own}\n"));
        // What the check refuses, the server refuses in the same words.
        for command in [vec!["config", "check"], vec!["serve", "tiny", "--port", "0"]] {
            let error = sandbox.run(&command).bad(code);
            for part in &parts {
                assert!(error.contains(part), "{command:?} {own}: {part} in {error}");
            }
        }
    }
}

/// What no model does wrong alone.
#[test]
fn check_looks_at_all_models_together() {
    let sandbox = crate::tiny_model::sandbox();
    std::fs::copy(sandbox.path("tiny.gguf"), sandbox.path("other.gguf")).unwrap();
    let size = std::fs::metadata(sandbox.path("tiny.gguf")).unwrap().len();
    for (engine, own, part) in [
        (String::new(), "aliases = [\"c\"]", "two models answer to the name c"),
        (
            format!("[engine]\nmemory = \"{}KiB\"\n", (2 * size + (3 << 20)) >> 10),
            "kv_memory = \"2MiB\"",
            "does not fit into memory",
        ),
    ] {
        let model = |name: &str| format!("[models.{name}]\nsource = \"{name}.gguf\"\nload = \"start\"\n{own}\n");
        sandbox.write("tokenworks.toml", engine + &model("tiny") + &model("other"));
        for command in [vec!["config", "check"], vec!["serve", "--port", "0"]] {
            let error = sandbox.run(&command).bad(2);
            assert!(error.contains(part), "{command:?}: {error}");
        }
    }
}

#[test]
fn check_reports_every_problem_and_as_json() {
    let sandbox = Sandbox::new();
    sandbox.write("text.gguf", "no model");
    sandbox.write(
        "tokenworks.toml",
        "[server]\nhost = \"0.0.0.0\"\n[models.nothing]\ncontext_len = 64\n[models.gone]\nsource = \"gone.gguf\"\n\
         [models.text]\nsource = \"text.gguf\"\n",
    );
    let ended = sandbox.run(&["config", "check", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(report["good"], false);
    let problems: Vec<String> = report["problems"].as_array().unwrap().iter().map(ToString::to_string).collect();
    let expected = [
        "models.gone.source: there is no file ./gone.gguf",
        "models.nothing has no source",
        "text.gguf",
        "server.keys",
    ];
    assert_eq!(problems.len(), expected.len(), "{problems:?}");
    for (problem, part) in problems.iter().zip(expected) {
        assert!(problem.contains(part) && !problem.contains("\"hint\":null"), "{part} in {problem}");
    }
    assert!(problems[1].contains("add source = "), "{problems:?}");
    let error = ended.bad(2);
    for part in expected {
        assert!(error.contains(part), "{part} in {error}");
    }
    // What is no configuration at all is reported alike.
    sandbox.write(
        "other.toml",
        "[server]\nprot = 1\nport = 70000\n[models.a]\nsorce = \"x\"\n[[server.keys]]\nname = 1\n",
    );
    let ended = sandbox.run(&["--threads", "none", "config", "check", "--json", "--config", "other.toml"]);
    let report: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(report["file"], "other.toml");
    let expected = ["models.a.sorce", "server.keys.name", "unknown key server.prot", "found 70000", "flag --threads"];
    let problems = report["problems"].to_string();
    assert_eq!(report["problems"].as_array().unwrap().len(), expected.len(), "{problems}");
    let error = ended.bad(2);
    for part in expected {
        assert!(problems.contains(part) && error.contains(part), "{part} in {error}");
    }
}

#[test]
fn check_looks_at_certificates_and_the_secret() {
    let sandbox = Sandbox::new();
    sandbox.write("a.pem", "no certificate");
    let hash = "0".repeat(64);
    let entry = format!(
        "[server]\ntls_certificate = \"a.pem\"\ntls_key = \"b.pem\"\n[[server.keys]]\nname = \"a\"\nhash = \"{hash}\"\n"
    );
    let file = sandbox.write("tokenworks.toml", entry);
    let error = sandbox.run(&["config", "check"]).bad(2);
    assert!(error.contains("a.pem") && error.contains("tls_certificate = "), "{error}");
    std::fs::write(file, format!("[[server.keys]]\nname = \"a\"\nhash = \"{hash}\"\n")).unwrap();
    // Keys are hashed with a secret that stays in this folder: without it none can be right.
    let report = sandbox.run(&["config", "check", "--json"]).json();
    assert!(report["warnings"][0].as_str().unwrap().contains("no key will be right"), "{report}");
    assert!(!sandbox.path(".local/share/tokenworks").exists(), "a check writes nothing");
}

#[test]
fn the_example_is_good() {
    let sandbox = Sandbox::new();
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/tokenworks.toml");
    assert!(sandbox.run(&["config", "check", example]).good().contains("good"));
}

#[test]
fn a_key_is_shown_once_and_kept_as_a_hash() {
    let sandbox = Sandbox::new();
    let made = sandbox.run(&["keys", "new", "team-a", "--json"]).json();
    let (key, hash) = (made["key"].as_str().unwrap(), made["hash"].as_str().unwrap());
    assert_eq!(hash.len(), 64);
    assert!(!hash.contains(key) && key.len() > 32);
    let file = sandbox.write("tokenworks.toml", format!("[[server.keys]]\nname = \"team-a\"\nhash = \"{hash}\"\n"));
    sandbox.run(&["config", "check", text(&file)]).good();
    assert!(sandbox.run(&["keys", "new", "team-a"]).bad(2).contains("already"));
    // The same secret serves all keys, and no two keys are alike.
    let other = sandbox.run(&["keys", "new", "team-b", "--json"]).json();
    assert_eq!(other["secret_file"], made["secret_file"]);
    assert_ne!(other["key"], made["key"]);
    // The entry is printed as it is pasted.
    let entry = sandbox.run(&["keys", "new", "team-c"]).good();
    assert!(entry.contains("[[server.keys]]\nname = \"team-c\"\nhash = \""), "{entry}");
}

#[test]
fn models_lists_what_there_is() {
    let sandbox = Sandbox::new();
    sandbox.write("tokenworks.toml", "[models.mine]\nsource = \"mine.gguf\"\n");
    sandbox.write("mine.gguf", "x");
    let rows = sandbox.run(&["models", "--json"]).json();
    let row = |name: &str| rows.as_array().unwrap().iter().find(|r| r["name"] == name).unwrap().clone();
    assert_eq!(row("smollm2-135m")["bytes"], 98_362_432);
    assert_eq!(row("smollm2-135m")["path"], serde_json::Value::Null);
    assert_eq!(row("gemma3-270m")["license"], "Gemma Terms of Use");
    assert_eq!(row("mine")["bytes"], 1);
    sandbox.write("tokenworks.toml", "[models.nothing]\ncontext_len = 64\n");
    let rows = sandbox.run(&["models", "--json"]).json();
    assert!(rows[2]["about"].as_str().unwrap().contains("cannot be used: models.nothing has no source"), "{rows}");
    let table = sandbox.run(&["models"]).good();
    assert!(table.starts_with("NAME") && table.contains("smollm2-135m"), "{table}");
}

#[test]
fn serve_tells_all_models_that_it_cannot_load() {
    let sandbox = Sandbox::new();
    sandbox.write("text.gguf", "no model");
    let start = "load = \"start\"\n";
    let models =
        format!("[models.gone]\nsource = \"gone.gguf\"\n{start}[models.text]\nsource = \"text.gguf\"\n{start}");
    sandbox.write("tokenworks.toml", &models);
    let error = sandbox.run(&["serve", "--port", "0"]).bad(1);
    for part in ["models.gone.source: there is no file ./gone.gguf", "./text.gguf", "not a GGUF file"] {
        assert!(error.contains(part), "{part} in {error}");
    }
    sandbox.write(
        "tokenworks.toml",
        format!("[models.a]\n{start}[models.b]\n{start}[models.c]\nsource = \"hf:x\"\n{start}"),
    );
    let error = sandbox.run(&["serve", "--port", "0"]).bad(2);
    for part in ["models.a has no source", "models.b has no source", "models.c.source: \"hf:x\" is no model on the hub"]
    {
        assert!(error.contains(part), "{part} in {error}");
    }
    let example = "add source = \"hf:owner/repo/model-Q4_0.gguf\" (or a path) under [models.a]";
    for command in [vec!["serve", "a"], vec!["run", "hi", "-m", "a"]] {
        let error = sandbox.run(&command).bad(2);
        assert!(error.contains("models.a has no source") && error.contains(example), "{error}");
    }
}

#[test]
fn unknown_models_and_missing_files() {
    let sandbox = Sandbox::new();
    for command in [vec!["pull", "smollm2"], vec!["serve", "smollm2"], vec!["tokenize", "x", "-m", "smollm2"]] {
        assert!(sandbox.run(&command).bad(2).contains("unknown model \"smollm2\""), "{command:?}");
    }
    assert!(sandbox.run(&["pull", "./none.gguf"]).bad(1).contains("there is no file ./none.gguf"));
    sandbox.write("text.gguf", "this is no model, whatever its name says");
    let error = sandbox.run(&["tokenize", "x", "--model", "text.gguf"]).bad(1);
    assert!(error.contains("text.gguf") && error.contains("cause:") && !error.contains("panicked"), "{error}");
}

#[test]
fn check_looks_at_the_plant_sheet() {
    let sandbox = Sandbox::new();
    sandbox.write("tokenworks.toml", "[plant]\nsheet_file = \"plant.toml\"\n");
    assert!(sandbox.run(&["config", "check"]).bad(2).contains("cannot read"));
    let example = sandbox.run(&["plant", "example"]).good();
    sandbox.write("plant.toml", example.replace("life_years = \"4\"", "life_years = \"0\""));
    assert!(sandbox.run(&["config", "check"]).bad(2).contains("plant.equipment[0].life_years"));
    sandbox.write("plant.toml", &example);
    sandbox.run(&["config", "check"]).good();
}
