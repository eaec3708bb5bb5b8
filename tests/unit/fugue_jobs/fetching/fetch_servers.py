"""Real HTTP servers on loopback that send exactly the bytes of a test, valid HTTP or not."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

# Begins like a JPEG and is no text; fetching checks nothing more.
PHOTO = b"\xff\xd8\xff\xe0" + bytes(range(256)) * 40


def ok(body: bytes = PHOTO, *headers: str) -> bytes:
    """Return a whole, well-formed 200 response."""
    return head(200, f"Content-Length: {len(body)}", *headers) + body


def head(status: int, *headers: str) -> bytes:
    return "".join(f"{line}\r\n" for line in (f"HTTP/1.1 {status} Word", *headers, "")).encode("latin-1")


def chunked(*chunks: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    framed = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return head(200, "Transfer-Encoding: chunked") + framed + end


@dataclass
class Exchange:
    """One request as it arrived, and the means to answer it. ``stop`` is set when the test ends."""

    path: str
    head: str
    connection: int
    sock: socket.socket
    stop: threading.Event
    keep: bool = True

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def hang_up(self, data: bytes = b"") -> None:
        """Send, then close the connection."""
        self.sock.sendall(data)
        self.keep = False

    def drip(self, data: bytes, *, every_s: float) -> None:
        """Send one byte at a time, to the end or until the test ends."""
        for byte in data:
            if self.stop.wait(every_s):
                return
            self.sock.sendall(bytes([byte]))

    @property
    def headers(self) -> dict[str, str]:
        lines = self.head.split("\r\n")[1:]
        return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}


Answer = bytes | Callable[[Exchange], None]


@dataclass
class Server:
    """What a test needs of a running server."""

    host: str
    port: int
    scheme: str = "http"
    exchanges: list[Exchange] = field(default_factory=list)
    connections: int = 0
    open_now: int = 0
    most_open: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def url(self, path: str = "/photo.jpg", host: str | None = None) -> str:
        name = host or self.host
        return f"{self.scheme}://{f'[{name}]' if ':' in name else name}:{self.port}{path}"

    @property
    def paths(self) -> list[str]:
        return [exchange.path for exchange in self.exchanges]


@contextmanager
def serving(
    answers: dict[str, Answer] | Answer, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None, port: int = 0
) -> Iterator[Server]:
    """Start a server with a response per path (without query), or one for all paths. Connections are kept alive."""
    listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    stop = threading.Event()
    server = Server(host, listener.getsockname()[1], "https" if tls else "http")

    def serve(sock: socket.socket, number: int) -> None:
        with server.lock:
            server.open_now += 1
            server.most_open = max(server.most_open, server.open_now)
        try:
            with tls.wrap_socket(sock, server_side=True) if tls else sock as wire:
                _converse(server, wire, number, answers, stop)
        except OSError:
            pass  # the client left: many tests make it leave
        finally:
            with server.lock:
                server.open_now -= 1

    def accept() -> None:
        while not stop.is_set():
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            sock.settimeout(20)
            server.connections += 1
            threading.Thread(target=serve, args=(sock, server.connections), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield server
    finally:
        stop.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def _converse(
    server: Server, wire: socket.socket, number: int, answers: dict[str, Answer] | Answer, stop: threading.Event
) -> None:
    received = b""
    while not stop.is_set():
        while b"\r\n\r\n" not in received:
            more = wire.recv(65536)
            if not more:
                return
            received += more
        raw, _, received = received.partition(b"\r\n\r\n")
        text = raw.decode("latin-1")
        exchange = Exchange(text.split(" ")[1], text, number, wire, stop)
        server.exchanges.append(exchange)
        answer = answers.get(exchange.path.split("?")[0], head(404)) if isinstance(answers, dict) else answers
        if callable(answer):
            answer(exchange)
        else:
            wire.sendall(answer)
        if not exchange.keep:
            return


@dataclass
class Names:
    """A resolver with given answers; the last one repeats. It records its questions."""

    answers: dict[str, list[Sequence[str]]]
    asked: list[str] = field(default_factory=list)

    def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        if host not in self.answers:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        left = self.answers[host]
        return left.pop(0) if len(left) > 1 else left[0]


def certificates(folder: Path, *names: str, days: int = 2) -> tuple[Path, ssl.SSLContext]:
    """Return a new authority's file, and a server context with its certificate for these names or addresses."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    now = datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "cropline tests")])
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())

    def sign(public: ec.EllipticCurvePublicKey, name: x509.Name, extensions: list[x509.ExtensionType]) -> bytes:
        builder = x509.CertificateBuilder(subject, name, public, x509.random_serial_number())
        builder = builder.not_valid_before(now - timedelta(days=3)).not_valid_after(now + timedelta(days=days))
        for extension in extensions:
            builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return builder.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    key_id = x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key())
    authority = folder / "authority.pem"
    authority.write_bytes(
        sign(ca_key.public_key(), subject, [x509.BasicConstraints(ca=True, path_length=None), key_id])
    )
    alternatives = x509.SubjectAlternativeName([_general_name(name) for name in names])
    leaf = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "cropline test server")])
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    chain = folder / "server.pem"
    chain.write_bytes(pem + sign(key.public_key(), leaf, [alternatives, issuer]))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    return authority, context


def _general_name(name: str):
    from cryptography import x509

    return x509.IPAddress(ip_address(name)) if name.replace(".", "").isdigit() else x509.DNSName(name)
