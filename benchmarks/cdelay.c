/* A TCP proxy that makes the way longer and nothing else.
 *
 *     cdelay MICROSECONDS PORT
 *
 * Listens on a free port of the loopback, prints it, and passes on what comes to PORT and
 * back, each byte MICROSECONDS after it came, in order, however much is on its way: it
 * delays, it does not throttle. The end of a connection travels as slowly as its bytes.
 *
 * What it is not: a network. A connection to it is made at once (its greeting takes a
 * round trip), nothing is lost, and there is no congestion window: the kernel sees only
 * the loopback.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define READ (256 * 1024)
#define MOST (64 * 1024 * 1024) /* on its way to one side, before it is not read on */
#define EVENTS 256

struct side {
    int fd;
    struct side *peer;
    struct chunk *head, *tail; /* due, not yet taken by the socket */
    size_t pending;            /* bytes on their way here */
    int ended;                 /* has said its last */
    int told;                  /* has been told that the other has */
    int broken;                /* takes nothing more */
};

struct chunk {
    struct chunk *next;
    struct side *to;
    uint64_t due;
    size_t size, done; /* size 0: the end */
    char data[];
};

static struct chunk *first, *last; /* every delay is the same: one queue, in order */
static char buffer[READ];
static int poller, timer, target_port;
static uint64_t delay_ns;

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

static void watch(struct side *s, int how)
{
    uint32_t in = !s->ended && s->peer->pending < MOST ? EPOLLIN : 0;
    uint32_t out = s->head && !s->broken ? EPOLLOUT : 0;
    struct epoll_event event = {.events = in | out, .data.ptr = s};
    /* A side that is only waited for would report its end again and again. */
    if (!in && !out && how == EPOLL_CTL_MOD)
        event.events = EPOLLET;
    if (epoll_ctl(poller, how, s->fd, &event) < 0)
        die("epoll_ctl");
}

static void set_timer(void)
{
    struct itimerspec at = {0};
    if (first) {
        at.it_value.tv_sec = (time_t)(first->due / 1000000000u);
        at.it_value.tv_nsec = (long)(first->due % 1000000000u);
    }
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, NULL);
}

static void enqueue(struct side *to, const char *data, size_t size)
{
    struct chunk *c = malloc(sizeof *c + size);
    if (!c)
        die("malloc");
    *c = (struct chunk){.to = to, .due = now_ns() + delay_ns, .size = size};
    memcpy(c->data, data, size);
    to->pending += size;
    if (last)
        last->next = c;
    else
        first = c;
    last = c;
    if (first == c)
        set_timer();
}

/* Close both sides once each has said its last and has been told. */
static int close_if_over(struct side *s)
{
    struct side *peer = s->peer;
    if (!(s->told && peer->told))
        return 0;
    close(s->fd);
    close(peer->fd);
    free(s);
    free(peer);
    return 1;
}

static void pop(struct side *s)
{
    struct chunk *c = s->head;
    s->head = c->next;
    if (!s->head)
        s->tail = NULL;
    s->pending -= c->size;
    free(c);
}

/* Hand over what is due. Returns 1 when the connection is over and freed. */
static int hand_over(struct side *s)
{
    while (s->head) {
        struct chunk *c = s->head;
        if (!c->size) {
            s->told = 1;
            shutdown(s->fd, SHUT_WR);
            pop(s);
            if (close_if_over(s))
                return 1;
            continue;
        }
        if (!s->broken) {
            ssize_t sent = send(s->fd, c->data + c->done, c->size - c->done,
                                MSG_NOSIGNAL | MSG_DONTWAIT);
            if (sent < 0 && errno == EAGAIN)
                break;
            if (sent < 0)
                s->broken = 1;
            else if ((c->done += (size_t)sent) < c->size)
                break;
        }
        pop(s);
    }
    watch(s, EPOLL_CTL_MOD);
    watch(s->peer, EPOLL_CTL_MOD);
    return 0;
}

static void release_due(void)
{
    uint64_t at = now_ns(), ignored;
    if (read(timer, &ignored, sizeof ignored) < 0 && errno != EAGAIN)
        die("timerfd");
    while (first && first->due <= at) {
        struct chunk *c = first;
        struct side *s = c->to;
        first = c->next;
        if (!first)
            last = NULL;
        c->next = NULL;
        if (s->tail)
            s->tail->next = c;
        else
            s->head = c;
        s->tail = c;
        if (s->head == c)
            hand_over(s);
    }
    set_timer();
}

static void take(struct side *s)
{
    int yes = 1;
    if (s->ended)
        return;
    ssize_t got = recv(s->fd, buffer, READ, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN)
        return;
    /* A client with Nagle's algorithm on must not wait for a delayed acknowledgement on
     * top: 40 ms that are the loopback's doing and no network's. Falls back by itself. */
    setsockopt(s->fd, IPPROTO_TCP, TCP_QUICKACK, &yes, sizeof yes);
    if (got <= 0) {
        s->ended = 1;
        got = 0;
    }
    enqueue(s->peer, buffer, (size_t)got);
    watch(s, EPOLL_CTL_MOD);
}

static struct side *make_side(int fd)
{
    int yes = 1;
    struct side *s = calloc(1, sizeof *s);
    if (!s || fd < 0)
        die("side");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    s->fd = fd;
    return s;
}

static struct sockaddr_in loopback(int port)
{
    return (struct sockaddr_in){.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)port),
                                .sin_addr = {htonl(INADDR_LOOPBACK)}};
}

static void welcome(int listener)
{
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct sockaddr_in name = loopback(target_port);
        struct side *near = make_side(fd);
        /* On the loopback this takes no time; blocking keeps it simple. */
        struct side *far = make_side(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        if (connect(far->fd, (struct sockaddr *)&name, sizeof name) < 0) {
            close(near->fd);
            close(far->fd);
            free(near);
            free(far);
            continue;
        }
        near->peer = far;
        far->peer = near;
        watch(near, EPOLL_CTL_ADD);
        watch(far, EPOLL_CTL_ADD);
    }
}

static int listen_anywhere(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_in name = loopback(0);
    socklen_t size = sizeof name;
    if (fd < 0 || bind(fd, (struct sockaddr *)&name, sizeof name) < 0
        || listen(fd, 1024) < 0 || getsockname(fd, (struct sockaddr *)&name, &size) < 0)
        die("listen");
    printf("%d\n", ntohs(name.sin_port));
    fflush(stdout);
    return fd;
}

static void add(int fd, void *mark)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = mark};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) < 0)
        die("epoll_ctl");
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fputs("usage: cdelay MICROSECONDS PORT\n", stderr);
        return 2;
    }
    delay_ns = strtoull(argv[1], NULL, 10) * 1000;
    target_port = atoi(argv[2]);
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    poller = epoll_create1(EPOLL_CLOEXEC);
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    int listener = listen_anywhere();
    add(listener, &listener);
    add(timer, &timer);
    struct epoll_event events[EVENTS];
    for (;;) {
        int found = epoll_wait(poller, events, EVENTS, -1), due = 0;
        for (int n = 0; n < found; n++) {
            void *mark = events[n].data.ptr;
            if (mark == &listener)
                welcome(listener);
            else if (mark == &timer)
                due = 1;
            else if (events[n].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
                take(mark);
        }
        /* Writing may end a connection, whose events must not be looked at after it. */
        for (int n = 0; n < found; n++) {
            struct side *s = events[n].data.ptr;
            if ((void *)s != &listener && (void *)s != &timer
                && (events[n].events & EPOLLOUT) && s->head && hand_over(s))
                break;
        }
        if (due)
            release_due();
    }
}
