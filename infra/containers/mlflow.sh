#!/bin/sh
# MLflow's server with passwords; they come by the environment, and basic-auth reads them from a file.
set -eu
umask 077
cat > /tmp/mlflow_auth.ini <<INI
[mlflow]
default_permission = READ
database_uri = postgresql://mlflow_auth:${MLFLOW_AUTH_DB_PASSWORD}@postgres/mlflow_auth
admin_username = admin
admin_password = ${MLFLOW_ADMIN_PASSWORD}
INI
export MLFLOW_AUTH_CONFIG_PATH=/tmp/mlflow_auth.ini
export MLFLOW_BACKEND_STORE_URI="postgresql://mlflow:${MLFLOW_DB_PASSWORD}@postgres/mlflow"
# the server refuses requests for names that it does not know as its own
exec mlflow server --host 0.0.0.0 --port 5000 --workers 1 --app-name basic-auth \
  --artifacts-destination s3://mlflow --allowed-hosts 'mlflow,mlflow:5000,localhost:*,127.0.0.1:*'
