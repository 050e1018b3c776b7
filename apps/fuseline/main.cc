#include "command.h"

int main(int argc, char** argv) {
  fuseline::Program program;
  fuseline::RegisterBroker(program);
  fuseline::RegisterImport(program);
  return program.Run(argc, argv);
}
