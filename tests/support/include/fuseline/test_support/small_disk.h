#pragma once

#include <string>

namespace fuseline::test {

// A disk of 48 MiB (a tmpfs) at a folder, which can be filled to the last byte. Needs the right to mount; gone with this object.
class SmallDisk {
 public:
  explicit SmallDisk(std::string folder);  // Makes the folder.
  ~SmallDisk();
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;

  bool mounted() const { return mounted_; }  // False: there is no right to, and the folder is an ordinary one.
  void Fill();
  void MakeLittleRoom();  // After Fill: so much that little things find room, and others do not.
  void MakeRoom();        // All that Fill took.

 private:
  const std::string folder_;
  bool mounted_ = false;
};

}  // namespace fuseline::test
