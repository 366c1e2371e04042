// c-mmsg: what receiving costs in C with recvmmsg and UDP_GRO, without Go's runtime.
// It waits in the call, and takes what is there when it wakes.
#include "receiver.h"

enum { BATCH = 8 };

int main(int argc, char **argv) {
	struct sockaddr_in addr;
	int fd = open_socket(argc, argv, &addr);
	struct timeval quiet = {.tv_usec = QUIET_MS * 1000};
	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &quiet, sizeof quiet))
		die("SO_RCVTIMEO");
	static char trains[BATCH][TRAIN], control[BATCH][CONTROL];
	static struct sockaddr_in names[BATCH];
	struct iovec iov[BATCH];
	struct mmsghdr messages[BATCH];
	begin(&addr);
	for (;;) {
		for (int i = 0; i < BATCH; i++) {
			iov[i] = (struct iovec){trains[i], TRAIN};
			messages[i].msg_hdr = (struct msghdr){
				.msg_name = &names[i], .msg_namelen = sizeof names[i],
				.msg_iov = &iov[i], .msg_iovlen = 1,
				.msg_control = control[i], .msg_controllen = CONTROL,
			};
		}
		int n = recvmmsg(fd, messages, BATCH, MSG_WAITFORONE, NULL);
		calls++;
		if (n < 0) {
			if (errno == EINTR)
				continue;
			if (errno != EAGAIN)
				die("recvmmsg");
			if (ending)
				break;
			continue;
		}
		for (int i = 0; i < n; i++)
			take(trains[i], messages[i].msg_len, &messages[i].msg_hdr);
	}
	report(fd);
	return 0;
}
