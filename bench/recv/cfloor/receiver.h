// What the C receivers have in common: the socket, the accounts, and the measured
// interval. A program is run as
//
//   PROGRAM reader address warmup_ns duration_ns buffer flows latency
//
// It prints its port as a JSON line, another line when the measured interval is
// over, reads on until a line comes on standard input, and prints a result. See
// result.go for the fields.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
	CONTROL = 256, TRAIN = 65535,
	POOL = 64, MTU = 1452,
	QUIET_MS = 100, // nothing came for as long: the run is over
	PATIENCE_MS = 10000, // for the first datagram
	LATENCIES = 200000, // buckets of 1 us
	MAGIC = 0x7fa11f14,
};

static volatile uint64_t count, receives, calls;
static volatile int ending, measuring;
static uint64_t reordered, foreign, *last_number;
static unsigned flows;
static char pool[POOL][MTU];
static int pool_at;
static unsigned latencies[LATENCIES + 1];
static int want_latency;

static void die(const char *what) {
	printf("{\"error\":\"%s: %s\"}\n", what, strerror(errno));
	fflush(stdout);
	exit(0);
}

static int64_t now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static double cpu(void) {
	struct rusage u;
	getrusage(RUSAGE_SELF, &u);
	return u.ru_utime.tv_sec + u.ru_stime.tv_sec + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6;
}

// take copies the datagrams of a train to buffers of the pool and checks them.
static int take(const char *p, size_t n, struct msghdr *control) {
	size_t segment = n;
	int datagrams = 0;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(control); c; c = CMSG_NXTHDR(control, c))
		if (c->cmsg_level == SOL_UDP && c->cmsg_type == UDP_GRO)
			segment = *(int *)CMSG_DATA(c);
	receives++;
	while (n > 0) {
		size_t k = n < segment ? n : segment;
		char *d = pool[pool_at];
		pool_at = (pool_at + 1) % POOL;
		if (k <= MTU) {
			uint32_t flow, magic;
			uint64_t number;
			memcpy(d, p, k);
			memcpy(&flow, d, 4);
			memcpy(&number, d + 4, 8);
			memcpy(&magic, d + 20, 4);
			if (k < 24 || magic != MAGIC || flow >= flows)
				foreign++;
			else if (number < last_number[flow])
				reordered++;
			else
				last_number[flow] = number + 1;
			if (want_latency && measuring && datagrams == 0) {
				int64_t sent, us;
				memcpy(&sent, d + 12, 8);
				us = (now() - sent) / 1000;
				latencies[us < 0 ? 0 : us > LATENCIES ? LATENCIES : us]++;
			}
		}
		p += k;
		n -= k;
		datagrams++;
	}
	count += datagrams;
	return datagrams;
}

// The measured interval, taken by a thread that sleeps meanwhile.
static int64_t warmup, duration;
static pthread_t meter;
static struct {
	double cpu, seconds;
	uint64_t datagrams, receives, calls;
} measured;

static void nap(int64_t ns) {
	struct timespec t = {ns / 1000000000, ns % 1000000000};
	nanosleep(&t, NULL);
}

static void *measure(void *unused) {
	for (int ms = 0; !count; ms++) {
		if (ms == PATIENCE_MS) {
			errno = ETIMEDOUT;
			die("no datagram came");
		}
		nap(1000000);
	}
	nap(warmup);
	measuring = 1;
	double c = cpu();
	int64_t t = now();
	uint64_t n = count, r = receives, k = calls;
	nap(duration);
	measured.cpu = cpu() - c;
	measured.seconds = (now() - t) / 1e9;
	measured.datagrams = count - n;
	measured.receives = receives - r;
	measured.calls = calls - k;
	measuring = 0;
	printf("{}\n");
	fflush(stdout);
	return unused;
}

static void *listen_for_end(void *unused) {
	char c;
	while (read(0, &c, 1) == 1 && c != '\n')
		;
	ending = 1;
	return unused;
}

static double quantile(double q) {
	uint64_t all = 0, sum = 0;
	for (int i = 0; i <= LATENCIES; i++)
		all += latencies[i];
	for (int i = 0; i <= LATENCIES; i++)
		if ((sum += latencies[i]) >= all * q)
			return i;
	return 0;
}

// open_socket takes the arguments of the program and makes its socket.
static int open_socket(int argc, char **argv, struct sockaddr_in *addr) {
	if (argc != 8)
		exit(2);
	warmup = atoll(argv[3]);
	duration = atoll(argv[4]);
	int rcvbuf = atoi(argv[5]), one = 1;
	flows = atoi(argv[6]);
	want_latency = atoi(argv[7]);
	last_number = calloc(flows, sizeof *last_number);
	*addr = (struct sockaddr_in){.sin_family = AF_INET};
	if (inet_pton(AF_INET, argv[2], &addr->sin_addr) != 1)
		exit(2);
	socklen_t len = sizeof *addr;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)addr, len) || getsockname(fd, (struct sockaddr *)addr, &len))
		die("socket");
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &rcvbuf, sizeof rcvbuf))
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &rcvbuf, sizeof rcvbuf);
	setsockopt(fd, SOL_IP, IP_RECVTOS, &one, sizeof one);
	if (setsockopt(fd, SOL_UDP, UDP_GRO, &one, sizeof one))
		die("GRO");
	return fd;
}

// begin says that the socket is ready to be read.
static void begin(const struct sockaddr_in *addr) {
	pthread_t listener;
	pthread_create(&listener, NULL, listen_for_end, NULL);
	printf("{\"port\":%d}\n", ntohs(addr->sin_port));
	fflush(stdout);
	pthread_create(&meter, NULL, measure, NULL);
}

// report says what was read.
static void report(int fd) {
	pthread_join(meter, NULL);
	uint32_t info[SK_MEMINFO_VARS] = {0};
	socklen_t size = sizeof info;
	if (getsockopt(fd, SOL_SOCKET, SO_MEMINFO, info, &size))
		die("SO_MEMINFO");
	int rcvbuf = 0;
	size = sizeof rcvbuf;
	getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &rcvbuf, &size);
	printf("{\"received\":%" PRIu64 ",\"reordered\":%" PRIu64 ",\"foreign\":%" PRIu64 ",\"drops\":%" PRIu32
	       ",\"measured\":%" PRIu64 ",\"seconds\":%.6f,\"cpu_s\":%.6f,\"syscalls\":%" PRIu64
	       ",\"train\":%.3f,\"p50_us\":%.0f,\"p99_us\":%.0f,\"gro\":true,\"rcvbuf\":%d}\n",
	       count, reordered, foreign, info[SK_MEMINFO_DROPS], measured.datagrams, measured.seconds, measured.cpu,
	       measured.calls, measured.receives ? (double)measured.datagrams / measured.receives : 0,
	       quantile(0.5), quantile(0.99), rcvbuf);
}
