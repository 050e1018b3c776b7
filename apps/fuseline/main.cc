#include "command.h"

int main(int argc, char** argv) {
  fuseline::Program program;
  fuseline::RegisterBroker(program);
  fuseline::RegisterConfig(program);
  fuseline::RegisterEvents(program);
  fuseline::RegisterImport(program);
  fuseline::RegisterSessions(program);
  return program.Run(argc, argv);
}
