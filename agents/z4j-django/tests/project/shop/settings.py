"""Settings of the test project; the ``Z4J`` dict comes from the environment."""

import json
import os

SECRET_KEY = "test"
DEBUG = True
ALLOWED_HOSTS = ["*"]
USE_TZ = True
ROOT_URLCONF = "shop.urls"
INSTALLED_APPS = ["shop", "z4j_django"]
DATABASES = {}
MIDDLEWARE = []
CELERY_BROKER_URL = CELERY_RESULT_BACKEND = os.environ.get("TEST_BROKER", "memory://")
CELERY_TASK_DEFAULT_QUEUE = os.environ.get("TEST_QUEUE", "shop")
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
TESTING = os.environ.get("TEST_TESTING") == "1"
if "TEST_Z4J" in os.environ:
    Z4J = json.loads(os.environ["TEST_Z4J"])
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "loggers": {"z4j": {"handlers": ["console"], "level": "INFO"}},
}
