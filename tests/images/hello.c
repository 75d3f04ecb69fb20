/* The hello-world image: one static program that greets and ends well. */
#include <stdio.h>

int main(void)
{
	puts("\n"
	     "Hello from Skiff!\n"
	     "If you can read this, then all of this has just worked:\n"
	     "\n"
	     " 1. The API server stored your pod, and the scheduler chose a node for it.\n"
	     " 2. The node's kubelet asked its runtime for the \"hello-world\" image, which came from a registry.\n"
	     " 3. The runtime made a container of it, and ran the program that writes these lines.\n"
	     " 4. Its output was kept as a log, and kubectl showed it to you.\n"
	     "\n"
	     "For something that stays, try:\n"
	     " $ kubectl create deployment webserver --image=nginx --replicas=3\n");
	return 0;
}
