/* Mutual TLS 1.3 over loopback as C and OpenSSL do it: the reference of the benchmark `wire`.

   tls_peer serve CERTIFICATE KEY AUTHORITY
   tls_peer send  CERTIFICATE KEY AUTHORITY PORT MESSAGE_BYTES SECONDS

   The server prints its port, then bytes and seconds from the first byte to the last. Each message is another
   piece of a ring that is larger than the processor's caches, as in the benchmark. */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define RING (192UL << 20)
#define READ (1UL << 20)

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

static void fail(const char *what) {
  perror(what);
  ERR_print_errors_fp(stderr);
  exit(1);
}

static SSL_CTX *settings(int server, char **argv) {
  SSL_CTX *c = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
  SSL_CTX_set_min_proto_version(c, TLS1_3_VERSION);
  SSL_CTX_set_verify(c, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
  SSL_CTX_set_options(c, SSL_OP_ENABLE_KTLS);
  if (SSL_CTX_use_certificate_file(c, argv[2], SSL_FILETYPE_PEM) != 1 ||
      SSL_CTX_use_PrivateKey_file(c, argv[3], SSL_FILETYPE_PEM) != 1 ||
      SSL_CTX_load_verify_locations(c, argv[4], NULL) != 1)
    fail("certificates");
  return c;
}

static SSL *wrap(SSL_CTX *c, int fd, int server) {
  int one = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "cubic", 5);
  SSL *s = SSL_new(c);
  SSL_set_fd(s, fd);
  if ((server ? SSL_accept(s) : SSL_connect(s)) != 1) fail("handshake");
  return s;
}

int main(int argc, char **argv) {
  int server = argc > 1 && !strcmp(argv[1], "serve");
  if (argc < 5 || (!server && argc < 8)) return 2;
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  SSL_CTX *c = settings(server, argv);
  if (server) {
    socklen_t size = sizeof at;
    if (bind(fd, (struct sockaddr *)&at, size) || listen(fd, 1)) fail("listen");
    getsockname(fd, (struct sockaddr *)&at, &size);
    printf("%d\n", ntohs(at.sin_port));
    fflush(stdout);
    SSL *s = wrap(c, accept(fd, NULL, NULL), 1);
    char *into = malloc(READ);
    unsigned long total = 0;
    double first = 0, last = 0;
    size_t got, at_byte = 0;
    while (SSL_read_ex(s, into + at_byte, READ - at_byte, &got)) {
      last = now();
      if (!total) first = last;
      total += got;
      at_byte = (at_byte + got) % READ;
    }
    printf("%lu %.6f\n", total, last - first);
  } else {
    at.sin_port = htons(atoi(argv[5]));
    unsigned long size = strtoul(argv[6], NULL, 10), where = 0;
    double until = atof(argv[7]);
    if (connect(fd, (struct sockaddr *)&at, sizeof at)) fail("connect");
    SSL *s = wrap(c, fd, 0);
    char *ring = malloc(RING);
    for (unsigned long i = 0; i < RING; i++) ring[i] = (char)(i * 2654435761UL >> 13);
    size_t sent;
    for (until += now(); now() < until; where = (where + size) % (RING - size + 1) / size * size)
      if (!SSL_write_ex(s, ring + where, size, &sent)) fail("write");
    SSL_shutdown(s);
  }
  return 0;
}
