//! Queries about one tenant, which Postgres itself keeps from any other's rows.

use futures::{
    FutureExt, TryFutureExt, TryStreamExt, future::BoxFuture, stream, stream::BoxStream,
};
use sqlx::{
    Describe, Either, Execute, Executor, PgConnection, PgPool, Postgres, SqlStr, Transaction,
    postgres::{PgQueryResult, PgRow, PgStatement, PgTypeInfo},
};

use super::measured::{Measured, Watch};
use crate::domain::ids::TenantId;

/// The roles that see the rows of one tenant.
#[derive(Clone, Copy, Debug)]
pub(super) enum TenantRole {
    /// `tollgate_tenant`, which changes nothing.
    Reader,
    /// `tollgate_tenant_writer`.
    Writer,
}

impl TenantRole {
    fn name(self) -> &'static str {
        match self {
            Self::Reader => "tollgate_tenant",
            Self::Writer => "tollgate_tenant_writer",
        }
    }

    /// Begins a transaction in the role; role and tenant hold until it ends. Dropping it ends it,
    /// too, but not before a tool that ends now is gone.
    pub(super) async fn begin(
        self,
        pool: &PgPool,
        tenant: &TenantId,
    ) -> sqlx::Result<Transaction<'static, Postgres>> {
        let mut transaction = pool.begin().await?;
        sqlx::query!(
            "SELECT set_config('role', $1, true) AS role,
                 set_config('tollgate.tenant', $2, true) AS tenant",
            self.name(),
            tenant.as_str()
        )
        .fetch_one(&mut *transaction)
        .await?;
        Ok(transaction)
    }
}

/// Runs a query in a role to which row-level security shows the rows of one tenant alone, whatever
/// the query asks for. For results of bounded length: they are gathered first.
#[derive(Clone, Copy, Debug)]
pub(super) struct TenantScope<'p> {
    pool: &'p PgPool,
    name: &'static str,
    role: TenantRole,
    tenant: &'p TenantId,
}

impl<'p> Measured<'p> {
    /// The same, to read what is `tenant`'s alone.
    pub(super) fn of(self, tenant: &'p TenantId) -> TenantScope<'p> {
        TenantScope { pool: self.pool, name: self.name, role: TenantRole::Reader, tenant }
    }

    /// The same, to change what is `tenant`'s alone.
    pub(super) fn writing_of(self, tenant: &'p TenantId) -> TenantScope<'p> {
        TenantScope { role: TenantRole::Writer, ..self.of(tenant) }
    }
}

impl<'p> Executor<'p> for TenantScope<'p> {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxStream<'e, sqlx::Result<Either<PgQueryResult, PgRow>>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let mut watch = Watch::start(self.name);
        let gathered = async move {
            let mut transaction = self.role.begin(self.pool, self.tenant).await?;
            let connection: &mut PgConnection = &mut transaction;
            let rows: Vec<_> = connection.fetch_many(query).try_collect().await?;
            transaction.commit().await?;
            Ok(stream::iter(rows.into_iter().map(Ok)))
        };
        Box::pin(gathered.try_flatten_stream().inspect_err(move |_| watch.failed()))
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, sqlx::Result<Option<PgRow>>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let mut watch = Watch::start(self.name);
        let one = async move {
            let mut transaction = self.role.begin(self.pool, self.tenant).await?;
            let connection: &mut PgConnection = &mut transaction;
            let row = connection.fetch_optional(query).await?;
            transaction.commit().await?;
            Ok(row)
        };
        one.inspect_err(move |_| watch.failed()).boxed()
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, sqlx::Result<PgStatement>>
    where
        'p: 'e,
    {
        self.pool.prepare_with(sql, parameters)
    }

    // Part of the trait with sqlx's macros.
    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, sqlx::Result<Describe<Postgres>>>
    where
        'p: 'e,
    {
        self.pool.describe(sql)
    }
}
