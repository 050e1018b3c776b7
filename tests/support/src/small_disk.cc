#include "fuseline/test_support/small_disk.h"

#include <filesystem>
#include <fstream>
#include <utility>

#include <sys/mount.h>

namespace fuseline::test {

SmallDisk::SmallDisk(std::string folder) : folder_(std::move(folder)) {
  std::filesystem::create_directories(folder_);
  mounted_ = mount("tmpfs", folder_.c_str(), "tmpfs", 0, "size=48m") == 0;
}

SmallDisk::~SmallDisk() {
  if (mounted_) umount2(folder_.c_str(), MNT_DETACH);
}

void SmallDisk::Fill() {
  std::ofstream ballast(folder_ + "/ballast", std::ios::binary);
  const std::string block(4'096, 'b');
  while (ballast.write(block.data(), static_cast<std::streamsize>(block.size())).flush()) continue;
}

void SmallDisk::MakeLittleRoom() {
  const std::string ballast = folder_ + "/ballast";
  std::filesystem::resize_file(ballast, std::filesystem::file_size(ballast) - 64 * 1'024);
}

void SmallDisk::MakeRoom() { std::filesystem::remove(folder_ + "/ballast"); }

}  // namespace fuseline::test
