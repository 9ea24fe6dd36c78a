//! The command line of the books: customers, keys, plans, prices, reports, the ledger.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

const SET_HELP: &str = "Set a field by its path, e.g. bounds.limits.requests_per_minute=60; null removes it";

/// Fields that have no flag of their own.
#[derive(Args, Debug)]
pub struct Fields {
    #[arg(long = "set", value_name = "PATH=VALUE", help = SET_HELP)]
    pub set: Vec<String>,
}

/// `customers`
#[derive(Debug, Subcommand)]
pub enum Customers {
    /// List the organisations with what they have
    #[command(after_help = "Example:\n  tokenworks customers list --json")]
    List {
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Show one organisation: its record, money, pool, teams, projects, keys
    #[command(after_help = "Example:\n  tokenworks customers show acme")]
    Show {
        /// The organisation's id
        id: String,
    },
    /// Create an organisation
    #[command(after_help = "Example:\n  tokenworks customers add acme --name \"Acme\" --plan basic --credit 0\n\n\
        --credit 0 = prepaid: it can spend what it has paid; without --credit it is billed without a bound")]
    Add(Organisation),
    /// Change an organisation; what is not named stays
    #[command(after_help = "Examples:\n  tokenworks customers set acme --plan gold\n  \
        tokenworks customers set acme --set suspended=true\n  \
        tokenworks customers set acme --set 'bounds.budget={\"amount\":\"100\",\"alert_percent\":[80,100]}'")]
    Set(Organisation),
    /// Create or change a team
    #[command(after_help = "Example:\n  tokenworks customers team research --customer acme")]
    Team(Member),
    /// Create or change a project: what keys belong to
    #[command(after_help = "Example:\n  tokenworks customers project web --customer acme --team research")]
    Project(Project),
    /// Give a person a role, or take it away
    #[command(after_help = "Example:\n  tokenworks customers member ann@acme.example --customer acme --role admin")]
    Member(Person),
    /// Bound or block an end user, known by the `user` field of requests
    #[command(after_help = "Example:\n  tokenworks customers end-user u-17 --customer acme --set blocked=true")]
    EndUser(EndUser),
    /// Book a payment
    #[command(after_help = "Example:\n  tokenworks customers pay acme 50.00 --reference \"transfer 17\"")]
    Pay {
        /// The organisation's id
        id: String,
        /// In the book currency; negative = paid out
        #[arg(allow_negative_numbers = true)]
        amount: String,
        /// Names this payment; the same one again changes nothing
        #[arg(long)]
        reference: String,
    },
    /// Give back what a request was charged, or a part of it: a credit note
    #[command(after_help = "Example:\n  tokenworks customers refund chatcmpl-… 0.02 --reference ticket-5")]
    Refund {
        /// The id of its answer
        request: String,
        /// In the book currency
        #[arg(allow_negative_numbers = true)]
        amount: String,
        /// Names this credit note; the same one again changes nothing
        #[arg(long)]
        reference: String,
        /// Why, as it stands on the invoice
        #[arg(long)]
        reason: Option<String>,
    },
    /// Show an invoice, or write it as PDF
    #[command(after_help = "Examples:\n  tokenworks customers invoice acme\n  \
        tokenworks customers invoice acme 2026-10-01 --pdf october.pdf")]
    Invoice {
        /// The organisation's id
        id: String,
        /// First day of the invoice's window
        #[arg(default_value = "current")]
        window: String,
        /// Write it as PDF
        #[arg(long, value_name = "FILE")]
        pdf: Option<PathBuf>,
    },
    /// Who changed what, when
    #[command(after_help = "Example:\n  tokenworks customers audit --limit 20")]
    Audit {
        /// The newest so many acts
        #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
}

/// `customers add`, `customers set`
#[derive(Args, Debug)]
pub struct Organisation {
    /// Its id: a-z, 0-9, `-`, `_`, `.`
    pub id: String,
    /// Its name on invoices
    #[arg(long)]
    pub name: Option<String>,
    /// Its plan
    #[arg(long)]
    pub plan: Option<String>,
    /// How far its money may go below 0
    #[arg(long, value_name = "AMOUNT", allow_negative_numbers = true)]
    pub credit: Option<String>,
    /// Other fields.
    #[command(flatten)]
    pub fields: Fields,
}

/// `customers team`
#[derive(Args, Debug)]
pub struct Member {
    /// Its id
    pub id: String,
    /// The organisation [default: as it is]
    #[arg(long, value_name = "ID")]
    pub customer: Option<String>,
    /// Its name
    #[arg(long)]
    pub name: Option<String>,
    /// Other fields.
    #[command(flatten)]
    pub fields: Fields,
}

/// `customers project`
#[derive(Args, Debug)]
pub struct Project {
    /// Id, organisation, name.
    #[command(flatten)]
    pub member: Member,
    /// Its team
    #[arg(long)]
    pub team: Option<String>,
}

/// `customers member`
#[derive(Args, Debug)]
pub struct Person {
    /// The person, e.g. an e-mail address
    pub person: String,
    /// The organisation
    #[arg(long, value_name = "ID")]
    pub customer: String,
    /// What the person may do
    #[arg(long)]
    pub role: Role,
}

/// What a person may do.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Role {
    /// Everything within the organisation
    Admin,
    /// Ask models and read usage
    Member,
    /// Read usage
    Viewer,
    /// No longer a member
    None,
}

/// `customers end-user`
#[derive(Args, Debug)]
pub struct EndUser {
    /// The text in the `user` field
    pub user: String,
    /// The organisation
    #[arg(long, value_name = "ID")]
    pub customer: String,
    /// Other fields.
    #[command(flatten)]
    pub fields: Fields,
}

/// `keys`
#[derive(Debug, Subcommand)]
pub enum Keys {
    /// Make a key of the configuration: shows it once, and the entry that holds only its hash
    #[command(after_help = "Example:\n  tokenworks keys new team-a")]
    New {
        /// Shown in logs and usage records
        name: String,
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// List the keys of the books
    #[command(after_help = "Example:\n  tokenworks keys list --json")]
    List {
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Make a key of a project in the books: shows it once
    #[command(after_help = "Example:\n  tokenworks keys add web-1 --project web")]
    Add(AddKey),
    /// Give a key a new text
    #[command(after_help = "Example:\n  tokenworks keys rotate web-1 --grace 3600")]
    Rotate {
        /// The key's id
        id: String,
        /// For so many seconds the old text works too
        #[arg(long, value_name = "SECONDS", default_value_t = 0)]
        grace: u32,
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Replace the lost secret of the books' keys: each key then needs a new text
    #[command(
        name = "reset-secret",
        after_help = "Example:\n  tokenworks keys reset-secret\n\n\
        Takes the secret in server.key_secret_file, or makes one. No server may have the books open. Then give each key\n\
        a new text with `tokenworks keys rotate`; keys of the configuration are made anew with `tokenworks keys new`."
    )]
    ResetSecret,
    /// Revoke a key, at once and for good
    #[command(after_help = "Example:\n  tokenworks keys revoke web-1")]
    Revoke {
        /// The key's id
        id: String,
    },
}

/// `keys add`
#[derive(Args, Debug)]
pub struct AddKey {
    /// Its id: a-z, 0-9, `-`, `_`, `.`
    pub id: String,
    /// The project it belongs to
    #[arg(long)]
    pub project: String,
    /// Shown in logs and usage records [default: the id]
    #[arg(long)]
    pub name: Option<String>,
    /// What it may do [default: inference and usage]
    #[arg(long, value_name = "SCOPE")]
    pub scope: Vec<Scope>,
    /// Refused from this time on, e.g. 2027-01-01T00:00:00Z
    #[arg(long, value_name = "TIME")]
    pub expires: Option<String>,
    /// Other fields.
    #[command(flatten)]
    pub fields: Fields,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

/// What a key may do.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Scope {
    /// Ask models
    Inference,
    /// Read usage and invoices of its organisation
    Usage,
    /// Change teams, projects, keys and members of its organisation
    Manage,
    /// Everything, for every organisation
    Plant,
}

/// `plans`
#[derive(Debug, Subcommand)]
pub enum Plans {
    /// List the plans
    #[command(after_help = "Example:\n  tokenworks plans list --json")]
    List {
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Create a plan
    #[command(after_help = "Examples:\n  tokenworks plans add basic\n  \
        tokenworks plans add team --pool 1000000 --at-pool-end stop --zone Asia/Shanghai")]
    Add(Plan),
    /// Change a plan; what is not named stays
    #[command(after_help = "Example:\n  tokenworks plans set team --set limits.concurrent_requests=8")]
    Set(Plan),
}

/// `plans add`, `plans set`
#[derive(Args, Debug)]
pub struct Plan {
    /// Its id: a-z, 0-9, `-`, `_`, `.`
    pub id: String,
    /// Tokens included each month, shared by input and output
    #[arg(long, value_name = "TOKENS")]
    pub pool: Option<u64>,
    /// What happens when they are used up
    #[arg(long, value_name = "WHAT")]
    pub at_pool_end: Option<PoolEnd>,
    /// The price list
    #[arg(long, value_name = "LIST")]
    pub price_list: Option<String>,
    /// Time zone of its months, e.g. Europe/Berlin
    #[arg(long, value_name = "ZONE")]
    pub zone: Option<String>,
    /// Other fields.
    #[command(flatten)]
    pub fields: Fields,
}

/// What happens at the pool's end.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum PoolEnd {
    /// The rest is charged at the price list
    Overage,
    /// The answer stops at the last covered token
    Stop,
}

/// `prices`
#[derive(Debug, Subcommand)]
pub enum Prices {
    /// List all versions of all prices
    #[command(after_help = "Example:\n  tokenworks prices list --json")]
    List {
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Add a version of a model's price, in force from now or from a later time
    #[command(
        after_help = "Examples:\n  tokenworks prices add smollm2-135m --input \"0.50 per 1M\" --output \"1.50 per 1M\"\n  \
        tokenworks prices add gpt-4-turbo --input \"0.01 per 1K\" --output \"0.03 per 1K\" --from 2027-01-01T00:00:00Z"
    )]
    Add(Price),
    /// Add the prices of a file
    #[command(after_help = "Example:\n  tokenworks prices import examples/prices-2024.json")]
    Import {
        /// A file like examples/prices-2024.json
        file: PathBuf,
    },
}

/// `prices add`
#[derive(Args, Debug)]
pub struct Price {
    /// The model's name
    pub model: String,
    /// Of prompt tokens, e.g. "0.50 per 1M"
    #[arg(long, value_name = "RATE")]
    pub input: String,
    /// Of answer tokens
    #[arg(long, value_name = "RATE")]
    pub output: String,
    /// Of prompt tokens from the prefix cache [default: like input]
    #[arg(long, value_name = "RATE")]
    pub cached_input: Option<String>,
    /// Of reasoning tokens [default: like output]
    #[arg(long, value_name = "RATE")]
    pub reasoning: Option<String>,
    /// The price list [default: standard]
    #[arg(long)]
    pub list: Option<String>,
    /// In force from then on [default: now]
    #[arg(long, value_name = "TIME")]
    pub from: Option<String>,
    /// In force until then
    #[arg(long, value_name = "TIME")]
    pub to: Option<String>,
}

/// `report`
#[derive(Args, Debug)]
pub struct Report {
    /// First day (UTC) [default: 30 days before the last one]; of a statement also a time, 2026-11-01T08:00:00Z
    #[arg(long, value_name = "YYYY-MM-DD")]
    pub from: Option<String>,
    /// Last day (UTC) [default: today]; of a statement also the time at which it ends
    #[arg(long, value_name = "YYYY-MM-DD")]
    pub to: Option<String>,
    /// What gets rows of its own
    #[arg(long, value_name = "WHAT", value_delimiter = ',', default_value = "customer,model,tag")]
    pub by: Vec<By>,
    /// The plant's income statement: revenue, cost by source, idle, margin, per 1M tokens, energy, utilisation, goodput, TFP
    #[arg(long, conflicts_with = "by")]
    pub statement: bool,
    /// Also tell where the change from another period came from: its first and its last day, or two times
    #[arg(long, value_name = "YYYY-MM-DD..YYYY-MM-DD", requires = "statement", conflicts_with_all = ["compare_from", "compare_to"])]
    pub compare: Option<String>,
    /// The same: first day of that period
    #[arg(long, value_name = "YYYY-MM-DD", requires = "statement", requires = "compare_to")]
    pub compare_from: Option<String>,
    /// Last day of that period
    #[arg(long, value_name = "YYYY-MM-DD", requires = "compare_from")]
    pub compare_to: Option<String>,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

/// What a report tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum By {
    /// Organisations
    Customer,
    /// Models
    Model,
    /// Tags of requests (`metadata.tag`)
    Tag,
    /// Days
    Day,
}

/// `ledger`
#[derive(Debug, Subcommand)]
pub enum Ledger {
    /// Recompute the chain of hashes, all balances, roll-ups, and that debits equal credits
    #[command(after_help = "Examples:\n  tokenworks ledger verify\n  tokenworks ledger verify --costs\n  \
        tokenworks ledger verify backup.db --json")]
    Verify {
        /// A backup [default: the ledger of this data folder, which a server may have in use]
        file: Option<PathBuf>,
        /// Also that all that the plant cost is idle, in progress or attributed to requests, to the nano-unit and microjoule
        #[arg(long)]
        costs: bool,
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Write all entries
    #[command(after_help = "Examples:\n  tokenworks ledger export --format csv > entries.csv\n  \
        tokenworks ledger export --format focus --customer acme --output acme.csv")]
    Export(Export),
    /// Copy the ledger while it goes on working
    #[command(after_help = "Example:\n  tokenworks ledger backup /backup/books-2026-11-01.db")]
    Backup {
        /// The new file
        to: PathBuf,
    },
    /// Verify a backup and put it in place; no ledger may be there
    #[command(after_help = "Example:\n  tokenworks ledger restore /backup/books-2026-11-01.db")]
    Restore {
        /// The backup
        from: PathBuf,
    },
}

/// `plant`
#[derive(Subcommand, Debug)]
pub enum Plant {
    /// Print an example sheet, to be changed and named by plant.sheet_file
    #[command(after_help = "Example:\n  tokenworks plant example > plant.toml")]
    Example,
    /// Check the configured sheet and print what the plant costs by it
    #[command(after_help = "Example:\n  tokenworks plant show")]
    Show {
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
}

/// `ledger export`
#[derive(Args, Debug)]
pub struct Export {
    /// How
    #[arg(long, default_value = "jsonl")]
    pub format: ExportFormat,
    /// Write to this new file [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Only this organisation (focus)
    #[arg(long, value_name = "ID")]
    pub customer: Option<String>,
    /// Only what was charged from this time on (focus), e.g. 2026-10-01T00:00:00Z
    #[arg(long, value_name = "TIME")]
    pub from: Option<String>,
    /// Only what was charged before this time (focus)
    #[arg(long, value_name = "TIME")]
    pub to: Option<String>,
}

/// How an export is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// A line per posting
    Csv,
    /// A JSON object per entry
    Jsonl,
    /// Charges in the columns of FOCUS 1.2
    Focus,
}
