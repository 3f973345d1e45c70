"""TLS as a client: whom we trust, and who we are."""

import ssl

from transport.errors import ConfigError


def client_context(*, ca: str = "", cert: str = "", key: str = "") -> ssl.SSLContext:
    """What a TLS handshake needs.

    Args:
        ca: PEM file of the authorities to trust; empty: the system's.
        cert, key: PEM files of our certificate and its unencrypted key; empty: we show none.

    Raises:
        ConfigError: a file is missing, no PEM, or encrypted, or key and certificate do not match.
    """
    try:
        context = ssl.create_default_context(cafile=ca or None)
    except OSError as error:
        raise ConfigError(f"tls_ca {ca}: {error}: give a readable PEM file") from None
    if cert:
        try:
            context.load_cert_chain(cert, key or None, password="")
        except OSError as error:
            raise ConfigError(
                f"tls_cert {cert} with tls_key {key}: {error}: "
                "give a readable certificate and its own, unencrypted key, both PEM"
            ) from None
    return context
