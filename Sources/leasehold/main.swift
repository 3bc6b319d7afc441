import ArgumentParser
import Yams
print("leasehold")
