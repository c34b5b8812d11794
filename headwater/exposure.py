"""Who can reach a server, and who may use it: address, keys, TLS -> what its operator should know, or a refusal."""

import ipaddress

from headwater.errors import ServerNotStarted


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches an address; of a name other than "localhost" that is not known."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_exposure(host: str, *, keys: bool, tls: bool, client_certificates: bool, open_to_all: bool) -> str:
    """Return what the operator should know of who may use the server, "" for nothing.

    Raises
    ------
    ServerNotStarted
        Others than this machine would reach a server that asks for neither keys nor certificates.
    """
    asks = keys or client_certificates
    if is_loopback(host):
        return "" if asks else "this machine only: there are neither keys nor client certificates"
    if not asks and not open_to_all:
        raise ServerNotStarted(
            f"whoever reaches {host or 'any address of this machine'} could use this server, for it asks for neither "
            "keys nor client certificates; make a key (headwater keys add NAME --role extract) and serve with --keys, "
            "or --tls-client-ca; or stay on 127.0.0.1; or say --open-to-all"
        )
    if not asks:
        return f"whoever reaches {host} may use this server: there are neither keys nor client certificates"
    if not tls:
        return f"keys travel to {host} in clear, for all on the way to read; serve with --tls-cert and --tls-key"
    return ""
