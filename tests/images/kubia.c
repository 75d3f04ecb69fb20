/* The luksa/kubia image: an HTTP server on port 8080 that says which pod was hit. */
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void end(int signal)
{
	(void)signal;
	_exit(0);
}

int main(void)
{
	/* The first process of a container gets no default action for a signal. */
	signal(SIGTERM, end);
	signal(SIGINT, end);
	signal(SIGPIPE, SIG_IGN);

	int on = 1, off = 0, listener = socket(AF_INET6, SOCK_STREAM, 0);
	struct sockaddr_in6 six = { .sin6_family = AF_INET6, .sin6_port = htons(8080) };
	struct sockaddr_in four = { .sin_family = AF_INET, .sin_port = htons(8080) };
	struct sockaddr *address = (struct sockaddr *)&six;
	socklen_t length = sizeof six;
	if (listener >= 0) {
		setsockopt(listener, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
	} else {
		listener = socket(AF_INET, SOCK_STREAM, 0);
		address = (struct sockaddr *)&four;
		length = sizeof four;
	}
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (bind(listener, address, length) || listen(listener, 128)) {
		perror("kubia");
		return 1;
	}
	char host[256] = "", body[512], request[4096];
	gethostname(host, sizeof host - 1);
	puts("Kubia server starting...");
	fflush(stdout);
	for (;;) {
		int client = accept(listener, NULL, NULL);
		if (client < 0)
			continue;
		struct timeval patience = { .tv_sec = 5 };
		setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
		if (read(client, request, sizeof request) > 0) {
			int size = snprintf(body, sizeof body, "You've hit %s\n", host);
			dprintf(client,
				"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
				"Content-Length: %d\r\nConnection: close\r\n\r\n%s",
				size, body);
			puts("Received request");
			fflush(stdout);
		}
		close(client);
	}
}
