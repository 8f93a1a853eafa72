//! What a statement is, after parsing and before any name in it is looked up.

use crate::plan::call::Call;
use crate::plan::sequence::SequenceClauses;
use scry_engine::election::{CandidateChanges, OnConflict, Privileges};
use sqlparser::ast;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IsolationLevel {
    ReadCommitted,
    RepeatableRead,
    Serializable,
}

impl IsolationLevel {
    /// As `SHOW transaction_isolation` prints it.
    pub fn name(self) -> &'static str {
        match self {
            IsolationLevel::ReadCommitted => "read committed",
            IsolationLevel::RepeatableRead => "repeatable read",
            IsolationLevel::Serializable => "serializable",
        }
    }

    /// READ UNCOMMITTED behaves as READ COMMITTED, as in PostgreSQL.
    pub fn from_name(name: &str) -> Option<Self> {
        const NAMES: [(&str, IsolationLevel); 4] = [
            ("read committed", IsolationLevel::ReadCommitted),
            ("read uncommitted", IsolationLevel::ReadCommitted),
            ("repeatable read", IsolationLevel::RepeatableRead),
            ("serializable", IsolationLevel::Serializable),
        ];
        NAMES
            .iter()
            .find(|(known, _)| name.eq_ignore_ascii_case(known))
            .map(|(_, level)| *level)
    }
}

/// Modes of BEGIN, SET TRANSACTION and SET SESSION CHARACTERISTICS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TransactionModes {
    pub isolation: Option<IsolationLevel>,
    pub read_only: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetScope {
    Session,
    Local,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettingValue {
    Default,
    Text(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiscardKind {
    All,
    Plans,
    Sequences,
    Temporary,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyFormat {
    Text,
    Csv,
    Binary,
}

#[derive(Debug, Clone)]
pub enum CopySource {
    Table {
        /// `public`, or a future to be copied out.
        schema: Option<String>,
        name: String,
        /// Those named.
        columns: Vec<String>,
    },
    /// The text of the query in `COPY (query) TO STDOUT`.
    Query(String),
}

/// Columns of FORCE_QUOTE, FORCE_NULL, FORCE_NOT_NULL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ColumnChoice {
    #[default]
    None,
    All,
    Names(Vec<String>),
}

#[derive(Debug, Clone)]
pub struct CopyStatement {
    pub source: CopySource,
    /// FROM STDIN, else TO STDOUT.
    pub from: bool,
    pub format: CopyFormat,
    pub delimiter: Option<u8>,
    pub null: Option<String>,
    pub header: bool,
    /// HEADER MATCH: the names of the header line must be the column names.
    pub header_match: bool,
    pub quote: Option<u8>,
    pub escape: Option<u8>,
    pub force_quote: ColumnChoice,
    pub force_null: ColumnChoice,
    pub force_not_null: ColumnChoice,
    /// WHERE of COPY FROM.
    pub filter: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExplainOptions {
    pub analyze: bool,
    pub verbose: bool,
}

/// A parsed statement. Boxed where sqlparser's nodes are large.
#[derive(Debug, Clone)]
pub enum Statement {
    Empty,
    /// BEGIN, or START TRANSACTION: they differ in their tags.
    Begin {
        modes: TransactionModes,
        start: bool,
    },
    Commit {
        chain: bool,
    },
    Rollback {
        chain: bool,
    },
    Savepoint(String),
    Release(String),
    RollbackTo(String),
    SetTransaction(TransactionModes),
    SetCharacteristics(TransactionModes),
    Set {
        scope: SetScope,
        name: String,
        value: SettingValue,
    },
    /// `SELECT set_config(name, value, is_local)`.
    SetConfig {
        name: String,
        value: String,
        local: bool,
    },
    Reset(Option<String>),
    Show(Option<String>),
    Discard(DiscardKind),
    /// `None`: all.
    Deallocate(Option<String>),
    Prepare {
        name: String,
        types: Vec<ast::DataType>,
        sql: String,
    },
    Execute {
        name: String,
        arguments: Vec<ast::Expr>,
    },
    Vacuum(Vec<String>),
    Analyze(Vec<String>),
    Checkpoint,
    Notify(NotifyStatement),
    Lock,
    DeclareCursor {
        name: String,
        hold: bool,
        query: String,
    },
    Fetch {
        name: String,
        count: FetchCount,
        moved: bool,
    },
    CloseCursor(Option<String>),
    Copy(Box<CopyStatement>),
    Explain(ExplainOptions, Box<Statement>),
    CreateTable(Box<ast::CreateTable>),
    DropTable {
        names: Vec<String>,
        if_exists: bool,
        cascade: bool,
    },
    Sequence(Box<SequenceStatement>),
    CreateIndex(Box<ast::CreateIndex>),
    DropIndex {
        names: Vec<String>,
        if_exists: bool,
        cascade: bool,
    },
    Truncate {
        names: Vec<String>,
        restart_identity: bool,
        cascade: bool,
    },
    /// SET CONSTRAINTS; no names: ALL.
    SetConstraints {
        names: Vec<String>,
        deferred: bool,
    },
    AlterTable {
        table: String,
        if_exists: bool,
        actions: Vec<AlterAction>,
    },
    Election(Box<ElectionStatement>),
    /// A function that stands for a statement.
    Call(Box<Call>),
    Insert(Box<Insert>),
    Update(Box<ast::Update>),
    Delete(Box<ast::Delete>),
    Query(Box<ast::Query>),
}

/// INSERT, with what sqlparser does not know.
#[derive(Debug, Clone)]
pub struct Insert {
    pub ast: ast::Insert,
    pub overriding: Option<Overriding>,
}

/// What counts for identity columns that are given values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overriding {
    /// The given ones, for GENERATED ALWAYS, too.
    SystemValue,
    /// Those of the sequence, for GENERATED BY DEFAULT, too.
    UserValue,
}

/// Statements about sequences.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SequenceStatement {
    Create {
        name: String,
        if_not_exists: bool,
        clauses: SequenceClauses,
    },
    Alter {
        name: String,
        if_exists: bool,
        clauses: SequenceClauses,
    },
    Rename {
        name: String,
        if_exists: bool,
        to: String,
    },
    Drop {
        names: Vec<String>,
        if_exists: bool,
        cascade: bool,
    },
}

/// LISTEN, UNLISTEN and NOTIFY.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotifyStatement {
    Listen(String),
    Unlisten(String),
    UnlistenAll,
    Notify { channel: String, payload: String },
}

impl NotifyStatement {
    pub fn tag(&self) -> &'static str {
        match self {
            NotifyStatement::Listen(_) => "LISTEN",
            NotifyStatement::Unlisten(_) | NotifyStatement::UnlistenAll => "UNLISTEN",
            NotifyStatement::Notify { .. } => "NOTIFY",
        }
    }
}

/// One thing that an ALTER TABLE does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AlterAction {
    /// There is one owner.
    OwnerTo,
    /// Collision rules of the table and its columns.
    SetRules(Vec<RuleChange>),
    AddPrimaryKey {
        constraint: Option<String>,
        columns: Vec<String>,
    },
    AddUnique {
        constraint: Option<String>,
        columns: Vec<String>,
    },
    AddCheck {
        constraint: Option<String>,
        /// The condition's text.
        condition: String,
    },
    AddForeignKey {
        constraint: Option<String>,
        key: Box<ast::ForeignKeyConstraint>,
        /// Whether the rows that are there are checked; else NOT VALID.
        validated: bool,
    },
    ValidateConstraint(String),
    AddColumn {
        /// The column's definition as text.
        definition: String,
        if_not_exists: bool,
    },
    DropColumn {
        name: String,
        if_exists: bool,
        cascade: bool,
    },
    DropConstraint {
        name: String,
        if_exists: bool,
        cascade: bool,
    },
    RenameConstraint {
        from: String,
        to: String,
    },
    SetDefault {
        column: String,
        /// The expression's text; `None`: DROP DEFAULT.
        default: Option<String>,
    },
    SetNotNull {
        column: String,
        not_null: bool,
    },
    AddIdentity {
        column: String,
        always: bool,
        clauses: SequenceClauses,
    },
    /// SET GENERATED, SET of options of its sequence, RESTART.
    AlterIdentity {
        column: String,
        always: Option<bool>,
        clauses: SequenceClauses,
    },
    DropIdentity {
        column: String,
        if_exists: bool,
    },
    /// Makes a generated column one like others.
    DropExpression {
        column: String,
        if_exists: bool,
    },
    RenameColumn {
        from: String,
        to: String,
    },
    RenameTo(String),
}

/// One option of ALTER TABLE … SET or RESET.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleChange {
    /// `None`: an option of the table.
    pub column: Option<String>,
    pub option: String,
    /// `None`: RESET.
    pub value: Option<String>,
}

/// Statements about elections and their candidates.
#[derive(Debug, Clone, PartialEq)]
pub enum ElectionStatement {
    CreateElection {
        name: String,
        /// How many candidates may be elected; 0: any number.
        winners: u32,
        /// Whether PUBLIC begins without privileges.
        private: bool,
    },
    CreateCandidate {
        name: String,
        election: String,
        mirrored: bool,
        weight: f64,
        note: String,
    },
    AlterCandidate {
        name: String,
        election: String,
        changes: CandidateChanges,
    },
    /// Lets go of the bases of an election.
    ExpireBase {
        election: String,
    },
    DropElection {
        name: String,
        if_exists: bool,
    },
    DropCandidate {
        name: String,
        election: String,
        if_exists: bool,
    },
    Elect {
        candidate: String,
        election: String,
        on_conflict: OnConflict,
    },
    Rebase {
        candidate: String,
        election: String,
        on_conflict: OnConflict,
    },
    ElectBest {
        election: String,
        /// Texts of queries that answer one value each.
        query: String,
        subject: Option<String>,
        /// Whether the greatest answer is the best.
        maximize: bool,
        on_conflict: OnConflict,
    },
    Grant {
        election: String,
        privileges: Privileges,
        /// `None`: PUBLIC.
        grantees: Vec<Option<String>>,
        /// REVOKE.
        revoked: bool,
    },
    ShowElections,
    ShowCandidates {
        election: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchCount {
    Rows(u64),
    All,
}

impl Statement {
    /// Statements that a failed transaction still accepts.
    pub fn ends_failed_transaction(&self) -> bool {
        matches!(
            self,
            Statement::Commit { .. } | Statement::Rollback { .. } | Statement::RollbackTo(_)
        )
    }
}
