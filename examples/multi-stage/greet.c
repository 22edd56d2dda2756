/* Greets with the first line of /words. */
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "--version") == 0) {
		puts("greet " VERSION);
		return 0;
	}
	char word[64] = "Hello";
	FILE *words = fopen("/words", "r");
	if (words && fgets(word, sizeof word, words))
		word[strcspn(word, "\n")] = '\0';
	printf("%s from scratch\n", word);
	return 0;
}
