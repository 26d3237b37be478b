/*
 * A WebSocket echo server as a C programmer would write one by hand: one thread, one level-triggered epoll loop, and for each
 * readable socket one read, all frames in it, one write. It checks what RFC 6455 asks a server to check (mask, reserved bits,
 * opcodes, lengths, fragment order, UTF-8), so that it does the same work as the servers it is compared with.
 *
 * Prints {"port":N} when it listens on 127.0.0.1, and ends when its standard input does.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <unistd.h>

enum {
  MAX_MESSAGE = 64 * 1024,
  MAX_REQUEST_HEAD = 16 * 1024,
  BUFFER_SIZE = 256 * 1024,
  EVENTS_PER_WAIT = 1024,
  UTF8_ACCEPT = 0,
  UTF8_REJECT = 12,
};

enum opcode { CONTINUATION = 0, TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10 };

struct connection {
  int fd;
  bool open;             /* the handshake is done */
  bool closing;          /* a close frame is queued: flush, then close the socket */
  bool waits_for_room;   /* epoll is asked for EPOLLOUT instead of EPOLLIN */
  uint8_t message;       /* TEXT or BINARY while fragments are missing, else 0 */
  uint32_t message_size; /* bytes of the fragments so far */
  uint32_t utf8;         /* decoder state between fragments */
  uint8_t *input;        /* an incomplete frame, or NULL */
  size_t input_size;
  uint8_t *output;       /* what the socket did not take, or NULL */
  size_t output_size;
};

static uint8_t in[BUFFER_SIZE];
static uint8_t out[BUFFER_SIZE]; /* an answer is never longer than the frame it answers */
static int poll_fd;

static void fail(const char *what) {
  perror(what);
  exit(1);
}

/* SHA-1 (RFC 3174), for one short message. */
static void sha1(const uint8_t *data, size_t size, uint8_t digest[20]) {
  uint32_t h[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
  uint8_t padded[192] = {0};
  size_t blocks = (size + 9 + 63) / 64;
  memcpy(padded, data, size);
  padded[size] = 0x80;
  uint64_t bits = (uint64_t)size * 8;
  for (int i = 0; i < 8; i++) padded[blocks * 64 - 1 - i] = (uint8_t)(bits >> (8 * i));
  for (size_t block = 0; block < blocks; block++) {
    uint32_t w[80];
    for (int i = 0; i < 16; i++) {
      const uint8_t *p = padded + block * 64 + i * 4;
      w[i] = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
    }
    for (int i = 16; i < 80; i++) {
      uint32_t x = w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16];
      w[i] = x << 1 | x >> 31;
    }
    uint32_t a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
    for (int i = 0; i < 80; i++) {
      uint32_t f, k;
      if (i < 20) f = (b & c) | (~b & d), k = 0x5a827999;
      else if (i < 40) f = b ^ c ^ d, k = 0x6ed9eba1;
      else if (i < 60) f = (b & c) | (b & d) | (c & d), k = 0x8f1bbcdc;
      else f = b ^ c ^ d, k = 0xca62c1d6;
      uint32_t t = (a << 5 | a >> 27) + f + e + k + w[i];
      e = d, d = c, c = b << 30 | b >> 2, b = a, a = t;
    }
    h[0] += a, h[1] += b, h[2] += c, h[3] += d, h[4] += e;
  }
  for (int i = 0; i < 20; i++) digest[i] = (uint8_t)(h[i / 4] >> (24 - 8 * (i % 4)));
}

static void base64(const uint8_t *data, size_t size, char *text) {
  static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (size_t i = 0; i < size; i += 3) {
    uint32_t v = (uint32_t)data[i] << 16 | (i + 1 < size ? (uint32_t)data[i + 1] << 8 : 0) | (i + 2 < size ? data[i + 2] : 0);
    *text++ = digits[v >> 18];
    *text++ = digits[v >> 12 & 63];
    *text++ = i + 1 < size ? digits[v >> 6 & 63] : '=';
    *text++ = i + 2 < size ? digits[v & 63] : '=';
  }
  *text = 0;
}

/* Bjoern Hoehrmann's UTF-8 decoder (bjoern.hoehrmann.de/utf-8/decoder/dfa), with a path for eight ASCII bytes at a time. */
static const uint8_t utf8_table[] = {
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, /* 00..1f */
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, /* 20..3f */
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, /* 40..5f */
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, /* 60..7f */
    1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, /* 80..9f */
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, /* a0..bf */
    8, 8, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, /* c0..df */
    10, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 4, 3, 3, 11, 6, 6, 6, 5, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, /* e0..ff */
    0, 12, 24, 36, 60, 96, 84, 12, 12, 12, 48, 72, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12,
    12, 0, 12, 12, 12, 12, 12, 0, 12, 0, 12, 12, 12, 24, 12, 12, 12, 12, 12, 24, 12, 24, 12, 12,
    12, 12, 12, 12, 12, 12, 12, 24, 12, 12, 12, 12, 12, 24, 12, 12, 12, 12, 12, 12, 12, 24, 12, 12,
    12, 12, 12, 12, 12, 12, 12, 36, 12, 36, 12, 12, 12, 36, 12, 12, 12, 12, 12, 36, 12, 36, 12, 12,
    12, 36, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12,
};

static uint32_t check_utf8(uint32_t state, const uint8_t *data, size_t size) {
  size_t i = 0;
  while (i < size) {
    uint64_t word;
    while (state == UTF8_ACCEPT && i + 8 <= size && (memcpy(&word, data + i, 8), !(word & 0x8080808080808080u))) i += 8;
    if (i == size) break;
    state = utf8_table[256 + state + utf8_table[data[i++]]];
    if (state == UTF8_REJECT) break;
  }
  return state;
}

static void unmask(uint8_t *to, const uint8_t *from, size_t size, const uint8_t mask[4]) {
  uint32_t half;
  memcpy(&half, mask, 4);
  uint64_t key = (uint64_t)half << 32 | half;
  size_t i = 0;
  for (; i + 8 <= size; i += 8) {
    uint64_t word;
    memcpy(&word, from + i, 8);
    word ^= key;
    memcpy(to + i, &word, 8);
  }
  for (; i < size; i++) to[i] = from[i] ^ mask[i & 3];
}

static void end_connection(struct connection *c) {
  close(c->fd);
  free(c->input);
  free(c->output);
  free(c);
}

static void watch(struct connection *c, bool waits_for_room) {
  if (c->waits_for_room == waits_for_room) return;
  c->waits_for_room = waits_for_room;
  struct epoll_event event = {.events = waits_for_room ? EPOLLOUT : EPOLLIN, .data.ptr = c};
  if (epoll_ctl(poll_fd, EPOLL_CTL_MOD, c->fd, &event) < 0) fail("epoll_ctl");
}

static uint8_t *keep(uint8_t *old, const uint8_t *data, size_t size) {
  uint8_t *kept = size ? malloc(size) : NULL;
  if (size && !kept) fail("malloc");
  if (size) memcpy(kept, data, size);
  free(old);
  return kept;
}

/* Writes; keeps what the socket does not take and stops reading until it has gone. False: the connection is over. */
static bool flush(struct connection *c, const uint8_t *data, size_t size) {
  size_t done = 0;
  while (done < size) {
    ssize_t n = write(c->fd, data + done, size - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno != EAGAIN) return false;
    if (n < 0) break;
    done += (size_t)n;
  }
  c->output_size = size - done;
  c->output = keep(c->output, data + done, c->output_size);
  watch(c, c->output_size > 0);
  return !(c->closing && c->output_size == 0);
}

static size_t close_frame(struct connection *c, uint8_t *to, uint16_t code) {
  c->closing = true;
  to[0] = 0x80 | CLOSE;
  to[1] = 2;
  to[2] = (uint8_t)(code >> 8);
  to[3] = (uint8_t)code;
  return 4;
}

/* RFC 6455 section 7.4: codes that may stand on the wire. */
static bool is_close_code(unsigned code) {
  return (code >= 1000 && code <= 1014 && code != 1004 && code != 1005 && code != 1006) || (code >= 3000 && code <= 4999);
}

/* Answers the frames in data; *answer gets the number of bytes put into `out`. Returns the bytes consumed. */
static size_t answer_frames(struct connection *c, const uint8_t *data, size_t size, size_t *answer) {
  size_t at = 0, put = 0;
  while (!c->closing && size - at >= 2) {
    const uint8_t *frame = data + at;
    uint8_t opcode = frame[0] & 15;
    bool final = frame[0] & 0x80;
    bool control = opcode >= CLOSE;
    size_t head = 2;
    uint64_t length = frame[1] & 127;
    if (length == 126) {
      head = 4;
      if (size - at < head) break;
      length = (uint64_t)frame[2] << 8 | frame[3];
      if (length < 126) { put += close_frame(c, out + put, 1002); break; }
    } else if (length == 127) {
      head = 10;
      if (size - at < head) break;
      length = 0;
      for (int i = 2; i < 10; i++) length = length << 8 | frame[i];
      if (length < 65536) { put += close_frame(c, out + put, 1002); break; }
    }
    bool known = opcode <= BINARY || (opcode >= CLOSE && opcode <= PONG);
    bool in_order = control || (opcode == CONTINUATION) == (c->message != 0);
    if ((frame[0] & 0x70) || !(frame[1] & 0x80) || !known || !in_order || (control && (!final || length > 125))) {
      put += close_frame(c, out + put, 1002);
      break;
    }
    if (!control && length + c->message_size > MAX_MESSAGE) {
      put += close_frame(c, out + put, 1009);
      break;
    }
    if (size - at < head + 4 + length) break;
    at += head + 4 + length;
    if (opcode == PONG) continue;

    uint8_t *to = out + put;
    memcpy(to, frame, head);
    to[1] &= 127;
    unmask(to + head, frame + head + 4, length, frame + head);
    if (opcode == PING) to[0] = 0x80 | PONG;
    if (opcode == CLOSE) {
      if (length == 1 || (length >= 2 && !is_close_code((unsigned)to[2] << 8 | to[3]))) {
        put += close_frame(c, to, 1002);
        break;
      }
      if (length > 2 && check_utf8(UTF8_ACCEPT, to + 4, length - 2) != UTF8_ACCEPT) {
        put += close_frame(c, to, 1007);
        break;
      }
      c->closing = true;
    } else if (!control) {
      if (opcode != CONTINUATION) c->message = opcode;
      if (c->message == TEXT) {
        c->utf8 = check_utf8(c->utf8, to + head, length);
        if (c->utf8 == UTF8_REJECT || (final && c->utf8 != UTF8_ACCEPT)) {
          put += close_frame(c, to, 1007);
          break;
        }
      }
      c->message_size = final ? 0 : c->message_size + (uint32_t)length;
      if (final) c->message = 0;
    }
    put += head + length;
  }
  *answer = put;
  return at;
}

/* The value of a header without the blanks around it, or NULL. */
static const char *header(const char *head, const char *name, size_t *size) {
  size_t name_size = strlen(name);
  for (const char *line = strstr(head, "\r\n"); line && line[2] != '\r'; line = strstr(line + 2, "\r\n")) {
    if (strncasecmp(line + 2, name, name_size) != 0 || line[2 + name_size] != ':') continue;
    const char *value = line + 3 + name_size;
    const char *end = strstr(value, "\r\n");
    while (*value == ' ' || *value == '\t') value++;
    while (end > value && (end[-1] == ' ' || end[-1] == '\t')) end--;
    *size = (size_t)(end - value);
    return value;
  }
  return NULL;
}

/* Answers the handshake when it is complete. Returns the bytes consumed. */
static size_t answer_handshake(struct connection *c, uint8_t *data, size_t size, size_t *answer) {
  uint8_t *end = memmem(data, size, "\r\n\r\n", 4);
  if (!end) {
    c->closing = size > MAX_REQUEST_HEAD;
    return 0;
  }
  end[2] = 0; /* ends the head for the string functions, behind the "\r\n" of its last line */
  const char *head = (const char *)data;
  size_t key_size, upgrade_size, version_size;
  const char *key = header(head, "Sec-WebSocket-Key", &key_size);
  const char *upgrade = header(head, "Upgrade", &upgrade_size);
  const char *version = header(head, "Sec-WebSocket-Version", &version_size);
  if (strncmp(head, "GET ", 4) != 0 || !key || key_size != 24 || !upgrade || upgrade_size != 9 ||
      strncasecmp(upgrade, "websocket", 9) != 0 || !version || version_size != 2 || memcmp(version, "13", 2) != 0) {
    *answer = (size_t)sprintf((char *)out, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    c->closing = true;
    return size;
  }
  uint8_t joined[60], digest[20];
  char accept[29];
  memcpy(joined, key, 24);
  memcpy(joined + 24, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11", 36);
  sha1(joined, sizeof joined, digest);
  base64(digest, sizeof digest, accept);
  *answer = (size_t)sprintf((char *)out,
                            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                            "Sec-WebSocket-Accept: %s\r\n\r\n",
                            accept);
  c->open = true;
  return (size_t)(end - data) + 4;
}

/* One read, every whole frame in it, one write. False: the connection is over. */
static bool read_from(struct connection *c) {
  size_t kept = c->input_size;
  if (kept) memcpy(in, c->input, kept);
  ssize_t n = read(c->fd, in + kept, sizeof in - kept);
  if (n < 0) return errno == EAGAIN || errno == EINTR;
  if (n == 0) return false;
  size_t size = kept + (size_t)n, answer = 0, used = 0;
  if (!c->open) {
    used = answer_handshake(c, in, size, &answer);
    if (answer && !flush(c, out, answer)) return false;
    answer = 0;
  }
  if (c->open) used += answer_frames(c, in + used, size - used, &answer);
  if (c->closing && answer == 0 && c->output_size == 0) return false;
  c->input_size = size - used;
  if (c->input_size || c->input) c->input = keep(c->input, in + used, c->input_size);
  return answer == 0 || flush(c, out, answer);
}

static void accept_all(int listener) {
  for (;;) {
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return;
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct connection *c = calloc(1, sizeof *c);
    if (!c) fail("calloc");
    c->fd = fd;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    if (epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &event) < 0) fail("epoll_ctl");
  }
}

int main(void) {
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t address_size = sizeof address;
  if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 4096) < 0 ||
      getsockname(listener, (struct sockaddr *)&address, &address_size) < 0)
    fail("listen");
  poll_fd = epoll_create1(EPOLL_CLOEXEC);
  int stdin_fd = STDIN_FILENO;
  struct epoll_event on_listener = {.events = EPOLLIN, .data.ptr = &listener};
  struct epoll_event on_stdin = {.events = EPOLLIN, .data.ptr = &stdin_fd};
  if (poll_fd < 0 || epoll_ctl(poll_fd, EPOLL_CTL_ADD, listener, &on_listener) < 0 ||
      epoll_ctl(poll_fd, EPOLL_CTL_ADD, stdin_fd, &on_stdin) < 0)
    fail("epoll");
  printf("{\"port\":%d}\n", ntohs(address.sin_port));
  fflush(stdout);

  static struct epoll_event events[EVENTS_PER_WAIT];
  for (;;) {
    int count = epoll_wait(poll_fd, events, EVENTS_PER_WAIT, -1);
    if (count < 0 && errno != EINTR) fail("epoll_wait");
    for (int i = 0; i < count; i++) {
      void *source = events[i].data.ptr;
      if (source == &listener) {
        accept_all(listener);
      } else if (source == &stdin_fd) {
        char unused[64];
        if (read(stdin_fd, unused, sizeof unused) <= 0) return 0;
      } else {
        struct connection *c = source;
        bool goes_on = c->waits_for_room ? flush(c, c->output, c->output_size) : read_from(c);
        if (!goes_on) end_connection(c);
      }
    }
  }
}
