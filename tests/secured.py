"""A broker with TLS, SASL and ACLs: what a test needs to see who may do what. Its plain listener is the test's own, and may do all.

Listeners: PLAINTEXT for the test (a super user), SASL_SSL with PLAIN, SCRAM and OAUTHBEARER, and SSL with certificates of clients.
"""

import secrets
from pathlib import Path

import trustme
from confluent_kafka.admin import AdminClient, ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from tests.broker import LocalBroker
from tests.ports import free_ports

PLAIN_USERS = ("worker", "client", "auditor", "admin", "nobody")
_ADMIN_SECONDS = 15


class SecuredBroker(LocalBroker):
    """One broker, its certificates, and users whose passwords are made anew each time."""

    def __init__(self, java: str, directory: Path) -> None:
        super().__init__(java, directory)
        self.directory = directory
        self.passwords = {name: f"canary-{name}-{secrets.token_hex(8)}" for name in PLAIN_USERS}
        self._authority = trustme.CA(organization_name="Perdure's tests")
        self._stranger = trustme.CA(organization_name="Somebody else")
        self.ca = self._write("ca.pem", self._authority.cert_pem.bytes())
        self.other_ca = self._write("other-ca.pem", self._stranger.cert_pem.bytes())
        ports = free_ports(2)
        self.sasl_servers, self.mutual_servers = (f"127.0.0.1:{port}" for port in ports)
        self._settings |= self._security(*ports)

    def _security(self, sasl_port: int, mutual_port: int) -> dict[str, str]:
        server = self._write("server.pem", identity_pem(self._authority.issue_cert("127.0.0.1", "localhost")))
        plain = " ".join(f'user_{name}="{password}"' for name, password in self.passwords.items())
        modules = "org.apache.kafka.common.security"
        sasl = "listener.name.sasl"
        listeners = self._settings["listeners"]
        advertised = self._settings["advertised.listeners"]
        more = f"SASL://127.0.0.1:{sasl_port},MUTUAL://127.0.0.1:{mutual_port}"
        return {
            "listeners": f"{listeners},{more}",
            "advertised.listeners": f"{advertised},{more}",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL:SASL_SSL,MUTUAL:SSL",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(server),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.ca),
            "listener.name.mutual.ssl.client.auth": "required",
            "ssl.principal.mapping.rules": "RULE:^.*CN=([^,]+).*$/$1/",
            "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512,OAUTHBEARER",
            f"{sasl}.plain.sasl.jaas.config": f"{modules}.plain.PlainLoginModule required {plain};",
            f"{sasl}.scram-sha-512.sasl.jaas.config": f"{modules}.scram.ScramLoginModule required;",
            f"{sasl}.oauthbearer.sasl.jaas.config": (
                f'{modules}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";'
            ),
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
        }

    def _write(self, name: str, content: bytes) -> Path:
        path = self.directory / name
        path.write_bytes(content)
        return path

    def issue(self, name: str) -> Path:
        """A client's key and certificate, whose principal is `User:NAME`: PEM files NAME.key and NAME.pem."""
        issued = self._authority.issue_cert(f"{name}.example.org", common_name=name)
        self._write(f"{name}.key", issued.private_key_pem.bytes())
        return self._write(f"{name}.pem", b"".join(each.bytes() for each in issued.cert_chain_pems))

    def add_scram_user(self, name: str, password: str) -> None:
        """A user whose password the broker keeps itself."""
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        admin = self.admin
        wanted = UserScramCredentialUpsertion(name, info, password.encode())
        for future in admin.alter_user_scram_credentials([wanted]).values():
            future.result(_ADMIN_SECONDS)

    @property
    def admin(self) -> AdminClient:
        """The test's own hand: a super user."""
        return AdminClient({"bootstrap.servers": self.servers})

    def as_user(self, name: str, **others: str) -> dict[str, str | int | float | bool]:
        """The [kafka] table of one user, with SASL PLAIN."""
        return {
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "PLAIN",
            "sasl.username": name,
            "sasl.password": self.passwords[name],
            "ssl.ca.location": str(self.ca),
            **{key.replace("_", "."): value for key, value in others.items()},
        }


def identity_pem(issued: trustme.LeafCert) -> bytes:
    """Key and chain as Kafka reads them: the key as PKCS#8."""
    key = load_pem_private_key(issued.private_key_pem.bytes(), None)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem + b"".join(each.bytes() for each in issued.cert_chain_pems)
