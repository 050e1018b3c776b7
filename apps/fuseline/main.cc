#include "command.h"

int main(int argc, char** argv) {
  fuseline::Program program;
  return program.Run(argc, argv);
}
