/* A Vulkan driver in front of Mesa's llvmpipe, for tests. Dawn refuses an adapter without dynamic indexing of arrays of images, which llvmpipe does not report and
   compute kernels do not use: here it is reported, and not asked of llvmpipe when a device is made. Everything else is llvmpipe's. The library that
   SPARSE_TUNER_LLVMPIPE names is loaded. Declarations are those of the Vulkan 1.0 and 1.1 specification, as far as they are needed. */
#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef void (*Function)(void);
typedef struct { uint32_t flags[55]; } Features;
typedef struct { uint32_t sType; void *pNext; Features features; } Features2;
typedef struct {
  uint32_t sType; const void *pNext; uint32_t flags; uint32_t queueCount; const void *queues; uint32_t layerCount; const void *layers;
  uint32_t extensionCount; const void *extensions; const Features *features;
} DeviceInfo;

enum { structureFeatures2 = 1000059000, sampledImageIndexing = 34, storageImageIndexing = 36 };

static Function (*driverAddress)(void *instance, const char *name);
static Function (*driverPhysicalAddress)(void *instance, const char *name);
static int (*driverVersion)(uint32_t *version);
static void (*driverFeatures)(void *card, Features *features);
static void (*driverFeatures2)(void *card, Features2 *features);
static int (*driverCreateDevice)(void *card, const DeviceInfo *info, const void *allocator, void **device);

static void setIndexing(Features *features, uint32_t value) {
  features->flags[sampledImageIndexing] = value;
  features->flags[storageImageIndexing] = value;
}

static void getFeatures(void *card, Features *features) {
  driverFeatures(card, features);
  setIndexing(features, 1);
}

static void getFeatures2(void *card, Features2 *features) {
  driverFeatures2(card, features);
  setIndexing(&features->features, 1);
}

/* The features asked for stand in the info itself or in the chain behind it; they are put back as they were. */
static int createDevice(void *card, const DeviceInfo *info, const void *allocator, void **device) {
  DeviceInfo own = *info;
  Features features;
  if (info->features) {
    features = *info->features;
    setIndexing(&features, 0);
    own.features = &features;
  }
  Features2 *chained = (Features2 *)info->pNext;
  while (chained && chained->sType != structureFeatures2) chained = chained->pNext;
  Features asked;
  if (chained) {
    asked = chained->features;
    setIndexing(&chained->features, 0);
  }
  int result = driverCreateDevice(card, &own, allocator, device);
  if (chained) chained->features = asked;
  return result;
}

static int load(void) {
  if (driverAddress) return 1;
  void *library = dlopen(getenv("SPARSE_TUNER_LLVMPIPE"), RTLD_NOW);
  if (!library) return 0;
  driverVersion = (int (*)(uint32_t *))dlsym(library, "vk_icdNegotiateLoaderICDInterfaceVersion");
  driverPhysicalAddress = (Function(*)(void *, const char *))dlsym(library, "vk_icdGetPhysicalDeviceProcAddr");
  driverAddress = (Function(*)(void *, const char *))dlsym(library, "vk_icdGetInstanceProcAddr");
  return driverAddress != 0;
}

static Function wrapped(const char *name, Function found) {
  if (!found) return found;
  if (!strcmp(name, "vkGetPhysicalDeviceFeatures")) {
    driverFeatures = (void (*)(void *, Features *))found;
    return (Function)getFeatures;
  }
  if (!strcmp(name, "vkGetPhysicalDeviceFeatures2") || !strcmp(name, "vkGetPhysicalDeviceFeatures2KHR")) {
    driverFeatures2 = (void (*)(void *, Features2 *))found;
    return (Function)getFeatures2;
  }
  if (!strcmp(name, "vkCreateDevice")) {
    driverCreateDevice = (int (*)(void *, const DeviceInfo *, const void *, void **))found;
    return (Function)createDevice;
  }
  return found;
}

Function vk_icdGetInstanceProcAddr(void *instance, const char *name) {
  return load() ? wrapped(name, driverAddress(instance, name)) : 0;
}

Function vk_icdGetPhysicalDeviceProcAddr(void *instance, const char *name) {
  return load() && driverPhysicalAddress ? wrapped(name, driverPhysicalAddress(instance, name)) : 0;
}

int vk_icdNegotiateLoaderICDInterfaceVersion(uint32_t *version) {
  return load() && driverVersion ? driverVersion(version) : -3; /* VK_ERROR_INITIALIZATION_FAILED */
}
