#!/bin/sh
# PostgreSQL runs this once, on an empty volume: a role and a database of the same name for each of its users.
set -eu
make() {
  psql -v ON_ERROR_STOP=1 -v role="$1" -v word="$2" --username "$POSTGRES_USER" <<'SQL'
create role :"role" login password :'word';
create database :"role" owner :"role";
SQL
}
make mlflow "$MLFLOW_DB_PASSWORD"
make mlflow_auth "$MLFLOW_AUTH_DB_PASSWORD"
make prefect "$PREFECT_DB_PASSWORD"
make optuna "$OPTUNA_DB_PASSWORD"
# Prefect asks for it, and its role may not make it
psql -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname prefect -c 'create extension if not exists pg_trgm'
