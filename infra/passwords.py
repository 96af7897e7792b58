"""Print what compose.yaml asks for, one `NAME=value` a line with new passwords."""

import secrets
import sys

NAMES = (
    *("POSTGRES_PASSWORD", "MLFLOW_DB_PASSWORD", "MLFLOW_AUTH_DB_PASSWORD", "PREFECT_DB_PASSWORD"),
    *("OPTUNA_DB_PASSWORD", "ADMIN_PASSWORD", "S3_SECRET", "FLASK_SECRET"),
)

sys.stdout.write("COMPOSE_PROJECT_NAME=downsize\n")
sys.stdout.writelines(f"{name}={secrets.token_urlsafe(24)}\n" for name in NAMES)
