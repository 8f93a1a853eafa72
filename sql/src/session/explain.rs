//! EXPLAIN: where a statement runs, and why.

use super::Session;
use super::settings::ReadFrom;
use crate::error::Error;
use crate::plan::planner::{Kind, Planned};
use crate::plan::row::{RowPlan, Rows};
use crate::plan::statement::{ExplainOptions, Statement};

impl Session {
    pub(super) async fn explain(
        &mut self,
        options: ExplainOptions,
        statement: &Statement,
    ) -> Result<Vec<String>, Error> {
        if options.analyze {
            return Err(Error::unsupported("EXPLAIN ANALYZE"));
        }
        self.check_accepted(statement)?;
        self.transaction.statement(&mut self.engine, &self.settings)?;
        let planned = self.plan(statement, &[])?;
        let mut lines = Vec::new();
        match &planned.kind {
            Kind::Call(_) | Kind::Utility => lines.push("Utility Statement".to_owned()),
            Kind::Row(plan) => row_lines(plan, &planned, &mut lines),
            Kind::Analytic(_) => self.analytic_lines(&planned, &mut lines).await?,
            Kind::Searched(plan) => {
                let what = if plan.assigned.is_some() {
                    "Update"
                } else {
                    "Delete"
                };
                lines.push(format!("{what} on {} (primary)", plan.table.def.name));
                lines.push(format!("  Why: {}", planned.reason));
                lines.push("  ->  Query over the primary's rows".to_owned());
            }
        }
        Ok(lines)
    }

    async fn analytic_lines(&mut self, planned: &Planned, lines: &mut Vec<String>) -> Result<(), Error> {
        let Kind::Analytic(plan) = &planned.kind else {
            return Ok(());
        };
        let primary = self.settings.active().read_from == ReadFrom::Primary;
        let place = match (plan.catalog_only(), primary) {
            (true, _) => "catalog",
            (false, true) => "primary",
            (false, false) => "mirror",
        };
        lines.push(format!("Query ({place})"));
        lines.push(format!("  Why: {}", planned.reason));
        if !plan.param_types().is_empty() {
            return Ok(());
        }
        let source = self.source(plan, primary).await?;
        if place == "mirror"
            && let Some((name, _)) = self.database.mirror().held()
        {
            lines.push(format!("  Mirror: held at savepoint \"{name}\""));
        }
        lines.extend(source.futures_read(plan).map(|line| format!("  Future: {line}")));
        let catalog = self.catalog();
        let scope = self.scope(&catalog);
        let explained = self
            .database
            .analytic()
            .explain(plan, source, &scope, Vec::new())
            .await?;
        lines.extend(explained.into_iter().map(|line| format!("  {line}")));
        Ok(())
    }
}

fn row_lines(plan: &RowPlan, planned: &Planned, lines: &mut Vec<String>) {
    let (title, filters) = match plan {
        RowPlan::Select(plan) => {
            let title = match &plan.table {
                Some(table) => format!("{} on {} (primary)", plan.access.describe(), table.def.name),
                None => "Result (primary)".to_owned(),
            };
            (title, plan.filter.len())
        }
        RowPlan::Insert(plan) => {
            let rows = match &plan.rows {
                Rows::Values(rows) => format!("{} rows", rows.len()),
                Rows::Defaults => "1 row".to_owned(),
                Rows::Query { .. } => "a query".to_owned(),
            };
            (format!("Insert on {} (primary): {rows}", plan.table.def.name), 0)
        }
        RowPlan::Update(plan) => (
            format!(
                "Update on {} (primary): {}",
                plan.table.def.name,
                plan.access.describe()
            ),
            plan.filter.len(),
        ),
        RowPlan::Delete(plan) => (
            format!(
                "Delete on {} (primary): {}",
                plan.table.def.name,
                plan.access.describe()
            ),
            plan.filter.len(),
        ),
    };
    lines.push(title);
    lines.push(format!("  Why: {}", planned.reason));
    if filters > 0 {
        lines.push(format!(
            "  Filter: {filters} condition{}",
            if filters == 1 { "" } else { "s" }
        ));
    }
}
