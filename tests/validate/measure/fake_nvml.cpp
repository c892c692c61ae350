// Stands in for libnvidia-ml.so.1: one GPU, with numbers that tell which of its functions was asked for what.

#include <cstring>

extern "C" {
int nvmlInit_v2() { return 0; }
int nvmlShutdown() { return 0; }
int nvmlDeviceGetHandleByPciBusId_v2(const char* address, void** device) {
  static int gpu = 0;
  *device = &gpu;
  return std::strcmp(address, "0000:3b:00.0") == 0 ? 0 : 6;  // NVML_ERROR_NOT_FOUND
}
/// NVML_CLOCK_GRAPHICS, _SM, _MEM, _VIDEO.
int nvmlDeviceGetClockInfo(void*, int type, unsigned* mhz) {
  *mhz = 1000 + static_cast<unsigned>(type);
  return type <= 3 ? 0 : 2;
}
int nvmlDeviceGetPowerUsage(void*, unsigned* milliwatts) {
  *milliwatts = 345678;
  return 0;
}
int nvmlDeviceGetEnforcedPowerLimit(void*, unsigned* milliwatts) {
  *milliwatts = 700000;
  return 0;
}
/// NVML_TEMPERATURE_GPU is 0.
int nvmlDeviceGetTemperature(void*, int sensor, unsigned* celsius) {
  *celsius = 47;
  return sensor == 0 ? 0 : 2;
}
int nvmlDeviceGetEccMode(void*, int* current, int* pending) {
  *current = 1;
  *pending = 0;
  return 0;
}
int nvmlSystemGetDriverVersion(char* text, unsigned length) {
  std::strncpy(text, "580.65.06", length);
  return 0;
}
}
