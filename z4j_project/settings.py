"""Django's settings, built from :class:`z4j_project.config.Config`."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from csp.constants import NONE, SELF

from z4j_project.config import detected_hosts, load

Z4J_CONFIG = load()

BASE_DIR = Path(__file__).resolve().parent.parent
SECRET_KEY = Z4J_CONFIG.session_secret
DEBUG = Z4J_CONFIG.debug

_public_host = urlsplit(Z4J_CONFIG.public_url).hostname or ""
ALLOWED_HOSTS = list(Z4J_CONFIG.allowed_hosts) or detected_hosts()
if _public_host and _public_host not in ALLOWED_HOSTS:
    ALLOWED_HOSTS.append(_public_host)
CSRF_TRUSTED_ORIGINS = [Z4J_CONFIG.public_url] if Z4J_CONFIG.public_url else []

INSTALLED_APPS = [
    # Before daphne, whose runserver command it refines.
    "z4j_project",
    "daphne",
    "brain",
    "audit",
    "dashboard",
    "channels",
    "django_htmx",
    "csp",
    "axes",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "dashboard.middleware.ErrorMiddleware",
    "axes.middleware.AxesMiddleware",
]

ROOT_URLCONF = "z4j_project.urls"
ASGI_APPLICATION = "z4j_project.asgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
# Agents speak to a path without a slash at the end, and a redirect would lose their POST.
APPEND_SLASH = True

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "dashboard.context.dashboard",
            ],
        },
    },
]

DATABASES = {"default": dict(Z4J_CONFIG.database)}

CHANNEL_LAYERS = {
    "default": (
        {"BACKEND": "channels_redis.core.RedisChannelLayer", "CONFIG": {"hosts": [Z4J_CONFIG.redis_url]}}
        if Z4J_CONFIG.redis_url
        else {"BACKEND": "channels.layers.InMemoryChannelLayer", "CONFIG": {"capacity": 1000}}
    ),
}

AUTH_USER_MODEL = "z4j_brain.User"
AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "django.contrib.auth.backends.ModelBackend",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "login"

# A stranger who guesses locks out the pair of account and address, never the account's owner elsewhere.
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
# The login form says "username" whatever the model calls it; one address in any spelling is one account.
AXES_USERNAME_FORM_FIELD = "username"
AXES_USERNAME_CALLABLE = "brain.accounts.login_name"
AXES_FAILURE_LIMIT = 5
AXES_COOLOFF_TIME = 0.25
AXES_LOCKOUT_TEMPLATE = "dashboard/locked.html"
AXES_HTTP_RESPONSE_CODE = 429
AXES_VERBOSE = False
AXES_ENABLE_ADMIN = False

LANGUAGE_CODE = "en"
USE_I18N = False
USE_TZ = True
TIME_ZONE = "UTC"

STATIC_URL = "static/"
WHITENOISE_USE_FINDERS = True
WHITENOISE_MAX_AGE = 3600

SESSION_COOKIE_AGE = 12 * 3600
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = Z4J_CONFIG.is_secure
SESSION_COOKIE_NAME = "__Host-z4j_session" if Z4J_CONFIG.is_secure else "z4j_session"
CSRF_COOKIE_NAME = "__Host-z4j_csrf" if Z4J_CONFIG.is_secure else "z4j_csrf"
CSRF_COOKIE_HTTPONLY = True
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if Z4J_CONFIG.is_secure else None
SECURE_SSL_REDIRECT = Z4J_CONFIG.is_secure
SECURE_HSTS_SECONDS = 365 * 24 * 3600 if Z4J_CONFIG.is_secure else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = Z4J_CONFIG.is_secure
SECURE_HSTS_PRELOAD = Z4J_CONFIG.is_secure
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "connect-src": [SELF],
        "object-src": [NONE],
        "base-uri": [NONE],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
    },
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {
            "()": "z4j_project.logs.LineFormatter",
            "format": "{asctime} {levelname} {name}: {message}",
            "style": "{",
        }
    },
    "filters": {"refusals": {"()": "z4j_project.logs.Refusals"}},
    "handlers": {
        "stderr": {"class": "logging.StreamHandler", "formatter": "line"},
        "refusals": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["refusals"]},
    },
    "root": {"handlers": ["stderr"], "level": "WARNING"},
    "loggers": {
        "z4j": {"level": "INFO"},
        "django.channels.server": {"level": "WARNING"},
        "django.security": {"handlers": ["refusals"], "propagate": False},
    },
}
