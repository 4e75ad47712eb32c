/* A fast SMTP sink: takes everything, keeps nothing, counts messages.
 *
 *     csink [-c] [-a ADDRESS] [-p PORT] [-r RECORDS [-f TEXT]] STATE
 *
 *   -c          offer CHUNKING (BDAT, RFC 3030)
 *   -a ADDRESS  listen at that IPv4 address; without it on the loopback
 *   -p PORT     listen there; without it on a free port
 *   -r RECORDS  write a line for each message: nanoseconds recipient Message-ID
 *   -f TEXT     of those, only for recipients that hold TEXT
 *   STATE       a file with what was counted, as `struct counted` below, always current
 *
 * Prints its port and serves every connection from one epoll loop until it is killed, or
 * whoever started it ends. One core takes tens of thousands of
 * messages a second, so that what is measured is the client. It checks the order of
 * commands and nothing else: it is a ruler, not a mail server.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define LINE 4096             /* the longest command */
#define READ (256 * 1024)     /* at once */
#define HEAD 8192             /* of a message, searched for its Message-ID */
#define NAME 512
#define EVENTS 256

struct counted {
    uint64_t messages, bytes; /* bytes: of messages, without the final dot */
    uint64_t first_ns, last_ns; /* CLOCK_MONOTONIC, the first and the last message */
    uint64_t connections;
};

enum state { COMMANDS, BODY, CHUNK };

struct client {
    int fd;
    enum state state;
    int sender, recipients;   /* seen since the last message */
    int fresh;                /* nothing of the body has come yet */
    int last;                 /* BDAT … LAST */
    int refused;              /* a chunk that nobody asked for */
    int quit;
    uint64_t remaining;       /* of a chunk */
    uint64_t size;            /* of the message so far */
    size_t left;              /* bytes kept for the next read */
    char rest[LINE];
    char *out;                /* what the socket did not take */
    size_t out_size;
    char recipient[NAME];
    char *head;
    size_t head_size;
};

static struct counted *counted;
static FILE *records;
static const char *needle;
static int chunking;
static char buffer[LINE + READ];
static char answers[64 * 1024];
static size_t answers_size;
static int poller;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (uint64_t)at.tv_sec * 1000000000u + (uint64_t)at.tv_nsec;
}

static void drop(struct client *c)
{
    close(c->fd);
    free(c->out);
    free(c->head);
    free(c);
}

static void watch(struct client *c, int how, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(poller, how, c->fd, &event) < 0)
        die("epoll_ctl");
}

/* Send, or keep what the socket does not take. Returns -1 when the client is gone. */
static int push(struct client *c, const char *data, size_t size)
{
    ssize_t sent = 0;
    if (!c->out_size) {
        sent = send(c->fd, data, size, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN)
            return -1;
        if (sent < 0)
            sent = 0;
        if ((size_t)sent == size)
            return 0;
        watch(c, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
    }
    size_t more = size - (size_t)sent;
    char *grown = realloc(c->out, c->out_size + more);
    if (!grown)
        die("realloc");
    c->out = grown;
    memcpy(c->out + c->out_size, data + sent, more);
    c->out_size += more;
    return 0;
}

static int push_kept(struct client *c)
{
    ssize_t sent = send(c->fd, c->out, c->out_size, MSG_NOSIGNAL);
    if (sent < 0)
        return errno == EAGAIN ? 0 : -1;
    c->out_size -= (size_t)sent;
    memmove(c->out, c->out + sent, c->out_size);
    if (!c->out_size)
        watch(c, EPOLL_CTL_MOD, EPOLLIN);
    return 0;
}

static int flush_answers(struct client *c)
{
    int done = answers_size ? push(c, answers, answers_size) : 0;
    answers_size = 0;
    return done;
}

static int answer(struct client *c, const char *text)
{
    size_t size = strlen(text);
    if (answers_size + size > sizeof answers && flush_answers(c) < 0)
        return -1;
    memcpy(answers + answers_size, text, size);
    answers_size += size;
    return 0;
}

static void reset(struct client *c)
{
    c->sender = c->recipients = 0;
    c->size = 0;
    c->head_size = 0;
    c->recipient[0] = 0;
}

static int wanted(const struct client *c)
{
    return records && (!needle || strstr(c->recipient, needle));
}

/* Keep the beginning of a message that is to be recorded. */
static void keep_head(struct client *c, const char *data, size_t size)
{
    c->size += size;
    if (c->head_size >= HEAD || !wanted(c))
        return;
    if (!c->head && !(c->head = malloc(HEAD + 1)))
        die("malloc");
    size_t room = HEAD - c->head_size;
    size_t some = size < room ? size : room;
    memcpy(c->head + c->head_size, data, some);
    c->head_size += some;
}

static void record(struct client *c, uint64_t at)
{
    const char *name = "-";
    size_t size = 1;
    if (c->head) {
        c->head[c->head_size] = 0;
        char *found = strncasecmp(c->head, "Message-ID:", 11) == 0
            ? c->head - 1 : strcasestr(c->head, "\nMessage-ID:");
        if (found) {
            name = found + 12;
            name += strspn(name, " \t\r\n");
            size = strcspn(name, " \t\r\n");
        }
    }
    fprintf(records, "%llu %s %.*s\n", (unsigned long long)at, c->recipient,
            (int)size, name);
}

static int take(struct client *c)
{
    uint64_t at = now_ns();
    if (!counted->first_ns)
        counted->first_ns = at;
    counted->last_ns = at;
    counted->bytes += c->size;
    if (wanted(c))
        record(c, at);
    __atomic_add_fetch(&counted->messages, 1, __ATOMIC_RELEASE);
    reset(c);
    return answer(c, "250 2.0.0 taken\r\n");
}

static void note_recipient(struct client *c, const char *line, size_t size)
{
    const char *from = memchr(line, '<', size);
    const char *to = from ? memchr(from, '>', size - (size_t)(from - line)) : NULL;
    size_t length = to ? (size_t)(to - from - 1) : 0;
    if (length >= NAME)
        length = NAME - 1;
    memcpy(c->recipient, to ? from + 1 : "", length);
    c->recipient[length] = 0;
    c->recipients++;
}

static int begin_chunk(struct client *c, const char *line)
{
    char *end;
    c->remaining = strtoull(line + 4, &end, 10);
    end += strspn(end, " ");
    c->last = strncasecmp(end, "LAST", 4) == 0;
    c->refused = !c->recipients;
    c->state = CHUNK;
    return 0;
}

static int says(const char *line, size_t size, const char *verb)
{
    size_t length = strlen(verb);
    return size >= length && strncasecmp(line, verb, length) == 0;
}

static int greet(struct client *c)
{
    return answer(c, chunking
        ? "250-sink\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n"
          "250-ENHANCEDSTATUSCODES\r\n250 CHUNKING\r\n"
        : "250-sink\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n"
          "250 ENHANCEDSTATUSCODES\r\n");
}

static int command(struct client *c, const char *line, size_t size)
{
    if (says(line, size, "EHLO") || says(line, size, "HELO")) {
        reset(c);
        return greet(c);
    }
    if (says(line, size, "MAIL")) {
        if (c->sender)
            return answer(c, "503 5.5.1 one at a time\r\n");
        c->sender = 1;
        return answer(c, "250 2.1.0 ok\r\n");
    }
    if (says(line, size, "RCPT")) {
        if (!c->sender)
            return answer(c, "503 5.5.1 MAIL first\r\n");
        note_recipient(c, line, size);
        return answer(c, "250 2.1.5 ok\r\n");
    }
    if (says(line, size, "DATA")) {
        if (!c->recipients)
            return answer(c, "503 5.5.1 RCPT first\r\n");
        c->state = BODY;
        c->fresh = 1;
        return answer(c, "354 go on\r\n");
    }
    if (chunking && says(line, size, "BDAT "))
        return begin_chunk(c, line);
    if (says(line, size, "RSET")) {
        reset(c);
        return answer(c, "250 2.0.0 ok\r\n");
    }
    if (says(line, size, "NOOP"))
        return answer(c, "250 2.0.0 ok\r\n");
    if (says(line, size, "QUIT")) {
        c->quit = 1;
        return answer(c, "221 2.0.0 bye\r\n");
    }
    return answer(c, "502 5.5.2 unknown\r\n");
}

/* Find the end of a body: where CRLF.CRLF begins, or NULL. */
static const char *find_end(const char *from, const char *end)
{
    const char *at = from;
    while ((at = memchr(at, '\n', (size_t)(end - at)))) {
        if (end - at < 4)
            return NULL;
        if (at[1] == '.' && at[2] == '\r' && at[3] == '\n' && at > from
            && at[-1] == '\r')
            return at - 1;
        at++;
    }
    return NULL;
}

/* Each of these takes what it can from [at, end) and returns how far it came; what it
 * returns unchanged needs more bytes. NULL: the client is gone. */

static const char *take_line(struct client *c, const char *at, const char *end)
{
    const char *stop = memchr(at, '\n', (size_t)(end - at));
    if (!stop)
        return at;
    return command(c, at, (size_t)(stop - at)) < 0 ? NULL : stop + 1;
}

static const char *take_body(struct client *c, const char *at, const char *end)
{
    if (c->fresh) {
        size_t size = (size_t)(end - at);
        if (memcmp(at, ".\r\n", size < 3 ? size : 3) == 0) {
            if (size < 3)
                return at;
            c->state = COMMANDS;
            return take(c) < 0 ? NULL : at + 3;
        }
        c->fresh = 0;
    }
    const char *stop = find_end(at, end);
    if (stop) {
        keep_head(c, at, (size_t)(stop + 2 - at));
        c->state = COMMANDS;
        return take(c) < 0 ? NULL : stop + 5;
    }
    if (end - at > 4) { /* the last four may be the beginning of the end */
        keep_head(c, at, (size_t)(end - at - 4));
        return end - 4;
    }
    return at;
}

static const char *take_chunk(struct client *c, const char *at, const char *end)
{
    uint64_t some = (uint64_t)(end - at);
    if (some > c->remaining)
        some = c->remaining;
    keep_head(c, at, (size_t)some);
    c->remaining -= some;
    at += some;
    if (c->remaining)
        return at;
    c->state = COMMANDS;
    int done;
    if (c->refused) {
        reset(c);
        done = answer(c, "503 5.5.1 RCPT first\r\n");
    } else if (c->last)
        done = take(c);
    else
        done = answer(c, "250 2.0.0 go on\r\n");
    return done < 0 ? NULL : at;
}

static int serve(struct client *c)
{
    memcpy(buffer, c->rest, c->left);
    ssize_t got = recv(c->fd, buffer + c->left, READ, 0);
    if (got < 0)
        return errno == EAGAIN ? 0 : -1;
    if (got == 0)
        return -1;
    const char *at = buffer, *end = buffer + c->left + got;
    while (!c->quit && (at < end || (c->state == CHUNK && !c->remaining))) {
        enum state before = c->state;
        const char *next = c->state == COMMANDS ? take_line(c, at, end)
            : c->state == BODY ? take_body(c, at, end)
            : take_chunk(c, at, end);
        if (!next)
            return -1;
        if (next == at && c->state == before)
            break;
        at = next;
    }
    c->left = (size_t)(end - at);
    if (c->left >= LINE)
        return -1; /* no command is that long */
    memcpy(c->rest, at, c->left);
    if (flush_answers(c) < 0)
        return -1;
    return c->quit ? -1 : 0;
}

static void welcome(int listener)
{
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        int yes = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        struct client *c = calloc(1, sizeof *c);
        if (!c)
            die("calloc");
        c->fd = fd;
        counted->connections++;
        watch(c, EPOLL_CTL_ADD, EPOLLIN);
        push(c, "220 sink ESMTP\r\n", 16);
    }
}

static int listen_on(const char *address, int port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), yes = 1;
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    socklen_t size = sizeof name;
    if (fd < 0 || inet_pton(AF_INET, address, &name.sin_addr) != 1)
        die("socket");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(fd, (struct sockaddr *)&name, sizeof name) < 0 || listen(fd, 1024) < 0)
        die("listen");
    if (getsockname(fd, (struct sockaddr *)&name, &size) < 0)
        die("getsockname");
    printf("%d\n", ntohs(name.sin_port));
    fflush(stdout);
    return fd;
}

static void map_state(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, sizeof *counted) < 0)
        die(path);
    counted = mmap(NULL, sizeof *counted, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (counted == MAP_FAILED)
        die("mmap");
    close(fd);
}

int main(int argc, char **argv)
{
    const char *address = "127.0.0.1";
    int port = 0, option;
    while ((option = getopt(argc, argv, "a:cp:r:f:")) != -1) {
        if (option == 'a')
            address = optarg;
        else if (option == 'c')
            chunking = 1;
        else if (option == 'p')
            port = atoi(optarg);
        else if (option == 'f')
            needle = optarg;
        else if (option != 'r' || !(records = fopen(optarg, "we")))
            die("csink: usage or -r");
    }
    if (optind + 1 != argc) {
        fputs("usage: csink [-c] [-a ADDRESS] [-p PORT] [-r RECORDS [-f TEXT]] STATE\n",
              stderr);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    map_state(argv[optind]);
    poller = epoll_create1(EPOLL_CLOEXEC);
    int listener = listen_on(address, port);
    struct epoll_event events[EVENTS], first = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, listener, &first) < 0)
        die("epoll_ctl");
    for (;;) {
        int found = epoll_wait(poller, events, EVENTS, -1);
        for (int n = 0; n < found; n++) {
            struct client *c = events[n].data.ptr;
            if (!c) {
                welcome(listener);
                continue;
            }
            int gone = 0;
            if (events[n].events & EPOLLOUT)
                gone = push_kept(c) < 0;
            if (!gone && events[n].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
                gone = serve(c) < 0;
            answers_size = 0;
            if (gone)
                drop(c);
        }
        if (records)
            fflush(records);
    }
}
